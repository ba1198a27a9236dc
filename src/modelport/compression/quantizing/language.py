"""The method ``quantize-language`` at work: perplexity, importance, the GGUF file, perplexity of that very file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn

from modelport.compression.method import Model
from modelport.compression.methods.quantize_language import QuantizeLanguageOptions
from modelport.compression.quantizing import blocks
from modelport.conversion.tools import gguf_file
from modelport.conversion.tools.gguf_file import Source
from modelport.errors import InvalidInput
from modelport.tensors import Array
from modelport.training import randomness
from modelport.training.batches import in_turn
from modelport.training.language import base as bases
from modelport.training.language import causal, chat, columns, tokens
from modelport.training.memory import check_fits
from modelport.training.recipe import Trained, TrainingData, TrainingRun

FILE = "model.gguf"
_BATCH = 4
_ADVICE = "take a smaller model"
_BESIDES, _ROOM = 256 << 20, 1 << 30
"""Bytes for activations, and for what goes into layers together: the product of every two inputs of each."""


def compress(run: TrainingRun, model: Model, data: TrainingData | None, options: QuantizeLanguageOptions) -> Trained:
    """Write the version's one file into ``run.out``; raises InvalidInput, and makes nothing, when it is too bad."""
    randomness.settle(run.seed, run.threads)
    run.progress(0, None, "reading the model", "steps")
    base = bases.find_base(replace(run, code=None, start=model.start))
    if base is None or base.recipe.task != "generate":
        raise InvalidInput(
            "the version holds no language model (a Hugging Face folder with safetensors, or a GGUF file)"
        )
    source = _source(model, base)
    embedding = options.embedding or ("q8_0" if options.type.startswith("q4") else options.type)
    report: dict[str, Any] = {"type": options.type, "embedding": embedding}
    texts = _texts(run, base, data, options) if data is not None else None
    if texts is not None:
        check_fits(bases.parameters_of(base.folder), 0, _BESIDES + _ROOM, what="the model", advice=_ADVICE)
        report["before"] = _perplexity(run, base, texts[1], "before")
    looked_at = texts[0] if texts and options.importance and options.type.startswith("q4") else None
    written = _written(run, base, source, looked_at, options.type, embedding)
    path = run.out / FILE
    shutil.copyfile(run.folder / FILE, path)
    report.setdefault("before", {})
    report["before"] |= {"model_bytes": source.bytes, "bits_per_weight": 8 * source.bytes / written.parameters}
    report["after"] = {
        "model_bytes": path.stat().st_size,
        "bits_per_weight": 8 * path.stat().st_size / written.parameters,
    }
    report |= {
        "parameters": written.parameters, "weights_by_type": written.types, "importance": looked_at is not None,
        "layers": [{"name": name, "relative_error": error} for name, error in written.errors.items()],
        "times_smaller_than_fp32": 4 * written.parameters / path.stat().st_size,
        "times_smaller_than_bf16": 2 * written.parameters / path.stat().st_size,
    }  # fmt: skip
    trained = Trained("language", report=report)
    if texts is not None:
        _judge(run, texts[1], path, options, trained)
    return trained


def _source(model: Model, base: bases.Base) -> Source:
    """A GGUF file as it is, and not what it was unpacked to."""
    found = sorted(model.folder.rglob("*.gguf"))
    return gguf_file.from_gguf(found[0]) if found else gguf_file.from_folder(base.folder)


def _network(base: bases.Base) -> nn.Module:
    network: nn.Module = bases.load_model(base, transformers.AutoModelForCausalLM)
    return network.eval()


def _texts(
    run: TrainingRun, base: bases.Base, data: TrainingData, options: QuantizeLanguageOptions
) -> tuple[causal.Examples | None, causal.Examples]:
    """Training rows to see importance in, and validation rows; raises InvalidInput for none."""
    column, is_chat = columns.conversation_or_text(data, options.messages, options.text)
    tokenizer = bases.load_writer(base)
    length = min(options.max_length, base.positions or options.max_length)
    found: list[causal.Examples | None] = []
    for name, files, most in (
        ("train", data.train, options.rows),
        ("validation", data.validation, options.validation_rows),
    ):
        reader = chat.Reader(tokenizer, column, chat=is_chat, answers_only=False, max_length=length)

        def read(reader: chat.Reader = reader, files: tuple[Path, ...] = files, most: int = most) -> Any:
            return reader.read(files, most)

        kept = tokens.kept(run.folder / "tokens" / name, read)
        pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id or 0
        found.append(causal.Examples(kept, [[row] for row in range(len(kept))], pad) if len(kept) else None)
    if found[1] is None:
        raise InvalidInput(f"data: no validation row has a text in column {column!r}, so perplexity cannot be measured")
    return found[0], found[1]


def _perplexity(run: TrainingRun, base: bases.Base, texts: causal.Examples, name: str) -> dict[str, float]:
    """Measured once, also when the job begins again."""
    note = run.folder / f"{name}.json"
    if not note.exists():
        run.progress(0, None, f"measuring perplexity {name}", "rows")
        half = note.with_suffix(".half")
        half.write_text(json.dumps(causal.perplexity(_network(base), texts, _BATCH)))
        half.rename(note)
    found: dict[str, float] = json.loads(note.read_text())
    return found


def _inputs(run: TrainingRun, network: nn.Module, texts: causal.Examples, source: Source) -> dict[str, Array]:
    """What goes into each tensor, by its name in GGUF: mean products, and mean squares where there is no room."""
    seen = {name: module for module, name in _heard(network, source)}
    sums: dict[str, torch.Tensor] = {}
    free = _ROOM
    for name, module in seen.items():
        width = int(module.weight.shape[1])
        together = 4 * width**2 <= free
        free -= 4 * width**2 if together else 0
        sums[name] = torch.zeros((width, width) if together else (width,))

    def seeing(name: str) -> Callable[[nn.Module, Any], None]:
        def see(module: nn.Module, given: Any) -> None:
            flat = given[0].detach().reshape(-1, given[0].shape[-1]).float()
            sums[name] += flat.T @ flat if sums[name].ndim == 2 else (flat**2).sum(0)

        return see

    hooks = [module.register_forward_pre_hook(seeing(name)) for name, module in seen.items()]
    tokens_seen = 0
    with torch.no_grad():
        for number, batch in enumerate(in_turn(texts, _BATCH)):
            run.progress(number * _BATCH, len(texts), "seeing what goes through the layers", "rows")
            network(input_ids=batch[0], position_ids=batch[1], use_cache=False)
            tokens_seen += batch[0].numel()
    for hook in hooks:
        hook.remove()
    return {name: (total / tokens_seen).numpy() + 1e-12 for name, total in sums.items()}


def _heard(network: nn.Module, source: Source) -> Iterator[tuple[nn.Module, str]]:
    """Layers and the tensors that they have in GGUF; first what scores tokens, which costs most."""
    head = network.get_output_embeddings()
    yield head, "token_embd.weight" if network.config.tie_word_embeddings else "output.weight"
    known = {theirs: ours for ours, theirs in source.names.items()}
    for name, module in network.named_modules():
        if name in known:
            yield module, known[name]


def _written(
    run: TrainingRun, base: bases.Base, source: Source, texts: causal.Examples | None, kind: str, embedding: str
) -> gguf_file.Written:  # fmt: skip
    """The file in the run's folder; written once, also when the job begins again."""
    note = run.folder / "written.json"
    if not note.exists():
        inputs = _inputs(run, _network(base), texts, source) if texts is not None else {}

        def told(number: int, name: str) -> None:
            run.progress(number, None, f"writing {name} as {kind}", "tensors")

        def pack(name: str, values: Array, kind: str) -> Array:
            if kind in ("q4_0", "q4_1"):
                return blocks.quantized(values, kind, inputs.get(name))  # type: ignore[arg-type]
            return gguf_file.packed(name, values, kind)

        done = gguf_file.write(run.folder / FILE, source, kind, embedding, told, pack)
        half = note.with_suffix(".half")
        half.write_text(json.dumps(asdict(done)))
        half.rename(note)
    return gguf_file.Written(**json.loads(note.read_text()))


def _judge(
    run: TrainingRun, texts: causal.Examples, path: Path, options: QuantizeLanguageOptions, trained: Trained
) -> None:
    """Perplexity of what the file holds; raises InvalidInput when it rose too much."""
    folder = run.folder / "after"
    if not folder.exists():
        half = run.folder / "after.half"
        shutil.rmtree(half, ignore_errors=True)
        bases.unpack_gguf(path, half)
        half.rename(folder)
    again = bases.find_base(replace(run, code=folder, start=None))
    assert again is not None
    before, after = trained.report["before"], _perplexity(run, again, texts, "after.file")
    trained.report["after"] |= after
    trained.report["validation_rows"] = len(texts)
    rise = after["perplexity"] / before["perplexity"] - 1
    trained.report["perplexity_rise"] = rise
    trained.judged_itself = True
    trained.metrics = {
        "loss_before": before["loss"], "perplexity_before": before["perplexity"],
        "validation_loss": after["loss"], "validation_perplexity": after["perplexity"],
    }  # fmt: skip
    if options.max_rise is not None and rise > options.max_rise:
        raise InvalidInput(
            f"max_rise: perplexity rose from {before['perplexity']:.4g} to {after['perplexity']:.4g} ({rise:.1%}), and "
            f"{options.max_rise:.1%} is allowed; say type q8_0 or q4_1, or a larger embedding"
        )
