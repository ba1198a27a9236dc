"""Structured pruning of ResNet-18, and a way out half-way, on scanned digits: size, speed in ONNX Runtime, accuracy.

    python benchmarks/pruning.py [--folder FOLDER] [--macs 2.5] [--threads 2]

Trains on 1,000 scans at 32 × 32 pixels, chooses by 197, and judges by 600 that neither training nor pruning has seen.
All models are asked in turn by the same process, one row at a time and one thread, so that the ratios are of one run:
medians, and of the way out means over the rows (an easy row takes less).
What was trained is kept in the folder: a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import tempfile
import time
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pyarrow as pa
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.metrics import accuracy_score, log_loss

from modelport.compression.method import Model
from modelport.compression.methods.early_exit import EarlyExit
from modelport.compression.methods.prune_structured import PruneStructured
from modelport.control.push import make_manifest
from modelport.data.writing import write_parts
from modelport.engine.inspect import artifact_files, inspect
from modelport.engine.preprocessing.image import ImageInput
from modelport.engine.runtime import Trust
from modelport.schemas.datasets import Column, Facts
from modelport.schemas.models import FileEntry, Inspection, VersionPush
from modelport.schemas.preprocessing import ImageStep
from modelport.tensors import Signature, TensorSpec
from modelport.training.recipe import TrainingData, TrainingRun, options_of
from modelport.training.recipes.image import ImageRecipe

OPTIONS = {
    "model": "resnet18", "size": 32, "epochs": 12, "batch_size": 64, "learning_rate": 1e-3,
    "augment": {"rotate": 8, "zoom": 0.1, "crop": 0.1},
}  # fmt: skip
ROUNDS = 400


def png(pixels: Any) -> bytes:
    """One scan as a file."""
    out = io.BytesIO()
    Image.fromarray((pixels * 255 / 16).astype(np.uint8)).save(out, "PNG")
    return out.getvalue()


def rows() -> dict[str, tuple[list[bytes], list[int]]]:
    """Files and labels by part."""
    found = load_digits()
    order = np.random.default_rng(0).permutation(len(found.images))
    cut = {"train": order[:1000], "validation": order[1000:1197], "test": order[1197:]}
    return {name: ([png(found.images[at]) for at in part], found.target[part].tolist()) for name, part in cut.items()}


def data_in(folder: Path, parts: dict[str, tuple[list[bytes], list[int]]]) -> TrainingData:
    """As a job gives it."""
    shutil.rmtree(folder, ignore_errors=True)
    schema = pa.schema([("image", pa.binary()), ("label", pa.int64())])
    made = {
        name: tuple(
            write_parts(folder / name, schema, [pa.record_batch([pa.array(one) for one in part], schema=schema)])
        )
        for name, part in parts.items()
    }
    facts = Facts(
        rows=1000, columns=[Column(name="image", type="binary"), Column(name="label", type="int64", distinct=10)]
    )
    return TrainingData(made["train"], made["validation"], {"image": "binary"}, "label", "int64", facts)


def score(task: str, truth: Any, found: Any) -> dict[str, float]:
    """What a job would measure of every epoch."""
    return {
        "accuracy": float(accuracy_score(truth, found.argmax(1))),
        "log_loss": float(log_loss(truth, found, labels=list(range(10)))),
    }


def attempt(folder: Path, threads: int) -> TrainingRun:
    """A run that goes on where it was stopped."""
    for name in ("kept", "out"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    return TrainingRun(
        folder / "kept", folder / "out", None, 0, threads, 1, score, lambda wanted: ("", {}),
        lambda done, total, message, unit: print(f"\r{folder.name}: {message[:100]:<100}", end="", flush=True),
        lambda name, value, step: None,
    )  # fmt: skip


def trained(folder: Path, data: TrainingData, threads: int) -> Model:
    """The version before."""
    story = folder / "out" / "training" / "training.json"
    if not story.exists():
        recipe = ImageRecipe()
        made = recipe.train(attempt(folder, threads), data, options_of(recipe, OPTIONS))
        (folder / "step.json").write_text(json.dumps(made.preprocessing[0]))
        story.write_text(json.dumps({"recipe": "image", "params": {"options": OPTIONS}}))
    return version(folder / "out", json.loads((folder / "step.json").read_text()))


def version(out: Path, step: dict[str, Any]) -> Model:
    """As the registry holds it."""
    files = [
        FileEntry(path=name, size=len(content), sha256=sha256(content).hexdigest())
        for name, content in ((name, (out / name).read_bytes()) for name in artifact_files(out))
    ]
    push = VersionPush.model_validate({"files": files, "preprocessing": [step], "task": "classification"})
    found = Inspection.model_validate(inspect(out, Trust()), from_attributes=True)
    return Model(out, make_manifest("digits", 1, push, found, datetime.now(UTC), "benchmark"))


def smaller(folder: Path, model: Model, data: TrainingData, method: Any, wish: dict[str, Any], threads: int) -> Any:
    """What a method makes of the version; its report and the serving step."""
    note = folder / "report.json"
    if not note.exists():
        made = method.compress(attempt(folder, threads), model, data, options_of(method, wish))
        note.write_text(json.dumps({"report": made.report, "step": made.preprocessing[0]}))
    return json.loads(note.read_text())


def session(path: Path) -> ort.InferenceSession:
    """One thread."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def milliseconds(sessions: list[ort.InferenceSession], pixels: Any) -> Any:
    """Of calls with one row, the sessions in turn: [sessions, calls]."""
    times: list[list[float]] = [[] for _ in sessions]
    for at in range(ROUNDS + 20):
        row = pixels[at % len(pixels)][None]
        for one, found in zip(sessions, times, strict=True):
            begun = time.perf_counter()
            one.run(["probabilities"], {"pixels": row})
            found.append((time.perf_counter() - begun) * 1e3)
    return np.array(times)[:, 20:]


def main() -> None:
    """Train, compress, judge, measure, print rows of the table."""
    reader = argparse.ArgumentParser(description=__doc__)
    reader.add_argument("--folder", type=Path, default=None)
    reader.add_argument("--macs", type=float, default=2.5)
    reader.add_argument("--epochs", type=int, default=10)
    reader.add_argument("--threads", type=int, default=2)
    given = reader.parse_args()
    folder = given.folder or Path(tempfile.mkdtemp())
    parts = rows()
    data = data_in(folder / "data", parts)
    model = trained(folder / "before", data, given.threads)
    names = [f"macs-{given.macs:g}", "exit"]
    channels = {"macs": given.macs, "epochs": given.epochs, "steps": 3, "step_epochs": 2}
    stories = [
        smaller(folder / names[0], model, data, PruneStructured(), channels, given.threads),
        smaller(folder / names[1], model, data, EarlyExit(), {"place": 0.5}, given.threads),
    ]
    signature = Signature((TensorSpec("pixels", "FP32", (-1, 1, 32, 32)),), ())
    step = ImageInput(ImageStep.model_validate(stories[0]["step"]).model_dump(), signature)
    step.open(folder)
    pixels, truth = step.apply(parts["test"][0])["pixels"], np.array(parts["test"][1])
    files = [folder / name / "out" / "model.onnx" for name in ("before", *names)]
    sessions = [session(path) for path in files]
    found = [one.run(["probabilities"], {"pixels": pixels})[0].argmax(1) for one in sessions]
    accuracy = [float((one == truth).mean()) for one in found]
    left = sessions[2].run(["left_early"], {"pixels": pixels})[0].mean()
    times = milliseconds(sessions, pixels)
    median, mean = np.median(times, 1), times.mean(1)
    size = [path.stat().st_size / 1e6 for path in files]
    print("\n| ResNet-18, digits at 32 × 32 | MACs | file | 1 row, 1 thread | accuracy on 600 unseen rows |")
    print("|---|---|---|---|---|")
    for at, name, times_of in ((1, "structured pruning", median), (2, f"early exit ({left:.0%} left)", mean)):
        report = stories[at - 1]["report"]
        macs = [report[which]["macs"] / 1e6 for which in ("before", "after")]
        told = [
            f"{macs[0]:.1f} → {macs[1]:.1f} M ({macs[0] / macs[1]:.2f} ×)",
            f"{size[0]:.1f} → {size[at]:.1f} MB ({size[0] / size[at]:.2f} ×)",
            f"{times_of[0]:.2f} → {times_of[at]:.2f} ms ({times_of[0] / times_of[at]:.2f} ×)",
            f"{accuracy[0]:.2%} → {accuracy[at]:.2%}",
        ]
        print(f"| {name} | {' | '.join(told)} |")


if __name__ == "__main__":
    main()
