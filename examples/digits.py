"""From data to a service: handwritten digits, trained, pushed, deployed and called over HTTP.

    python examples/digits.py                 starts a server of its own, and stops it
    python examples/digits.py --keep          leaves it running, and says how to call and stop it
    python examples/digits.py --url http://…  uses a server that runs already (key: MODELPORT_KEY)

The data are the 1797 digits of 8 × 8 pixels (UCI) that scikit-learn brings along.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from own_server import own_server
from rich.console import Console
from rich.table import Table
from skl2onnx import to_onnx
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import modelport

MODEL = "digits"
CONCURRENCIES = (1, 8)
console = Console(highlight=False)


@dataclass(frozen=True)
class Experiment:
    """A trained model as ONNX, and the images that it has not seen."""

    onnx: bytes
    images: Any  # FP32 [N, 64], 0 to 16
    digits: Any  # what a person read
    predictions: Any  # what the model answers in this process
    score: float


def train() -> Experiment:
    """Fit a small neural network on seven tenths of the images."""
    images, digits = load_digits(return_X_y=True)
    images = images.astype(np.float32)
    split = train_test_split(images, digits, test_size=0.3, random_state=0, stratify=digits)
    seen, unseen, seen_digits, unseen_digits = split
    network = MLPClassifier((256,), alpha=0.01, learning_rate_init=0.003, random_state=0)
    model = make_pipeline(StandardScaler(), network)
    model.fit(seen, seen_digits)
    onnx = to_onnx(model, seen[:1], options={"zipmap": False}).SerializeToString()
    predictions = model.predict(unseen)
    return Experiment(onnx, unseen, unseen_digits, predictions, float((predictions == unseen_digits).mean()))


@contextmanager
def server(keep: bool) -> Iterator[str]:
    """A server of our own; gives its URL."""
    with own_server("digits", keep) as environment:
        home = environment["MODELPORT_HOME"]
        yield json.loads(Path(home, "run", "endpoint.json").read_text())["url"]
    if keep:
        console.print(f"\nThe service is up. Stop it with:\n  MODELPORT_HOME={home} modelport down")


def publish(client: modelport.Client, experiment: Experiment) -> None:
    """Push the model to the registry and deploy it with two replicas."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "digits.onnx"
        path.write_bytes(experiment.onnx)
        version = client.models.push(path, name=MODEL, metrics={"accuracy": experiment.score}, alias="champion")
    deployment = client.deploy(MODEL, alias="champion", replicas=2)
    console.print(f"serving {MODEL}:{version.version} with {deployment.replicas_ready} replicas")


@dataclass(frozen=True)
class Measured:
    """What came back when every image was sent as a request of its own."""

    labels: Any
    took: list[float]  # seconds of each request
    seconds: float  # of all


async def measure(url: str, images: Any, concurrency: int) -> Measured:
    """Send every image as a request of its own, ``concurrency`` at a time."""
    labels = np.empty(len(images), np.int64)
    took = [0.0] * len(images)
    waiting = iter(range(len(images)))

    async with modelport.AsyncClient(url) as client:

        async def caller() -> None:
            for index in waiting:
                start = time.perf_counter()
                answer = await client.predict(MODEL, images[index : index + 1])
                took[index] = time.perf_counter() - start
                labels[index] = answer["label"][0]

        await client.predict(MODEL, images[:1])  # reads the signature
        await asyncio.gather(*(client.predict(MODEL, images[:1]) for _ in range(concurrency)))  # opens the connections
        start = time.perf_counter()
        await asyncio.gather(*(caller() for _ in range(concurrency)))
        return Measured(labels, took, time.perf_counter() - start)


def call_with_curl(url: str, image: Any) -> None:
    """The same with nothing but curl: printed, run, and its answer."""
    body = json.dumps({"data": [image.astype(int).tolist()]}, separators=(",", ":"))
    command = ["curl", "-s", f"{url}/predict?model={MODEL}", "-H", "Content-Type: application/json", "-d", body]
    if key := os.environ.get("MODELPORT_KEY"):
        command += ["-H", f"Authorization: Bearer {key}"]
    console.print(
        f"\n$ curl -s '{url}/predict?model={MODEL}' -H 'Content-Type: application/json' \\\n  -d '{body}'",
        soft_wrap=True,
    )
    if shutil.which("curl") is None:
        console.print("curl is not installed here")
        return
    answer = json.loads(subprocess.run(command, check=True, capture_output=True, timeout=60).stdout)
    console.print(json.dumps(answer), soft_wrap=True)


def report(experiment: Experiment, runs: dict[int, Measured]) -> bool:
    """Print the figures; whether the API and this process gave the same predictions."""
    differences = [int((run.labels != experiment.predictions).sum()) for run in runs.values()]
    accuracies = [float((run.labels == experiment.digits).mean()) for run in runs.values()]
    table = Table(title=f"{len(experiment.images)} images that the model had not seen, one per request")
    table.add_column("")
    table.add_column("in this process", justify="right")
    for concurrency in runs:
        table.add_column(f"API, {concurrency} at a time", justify="right")
    table.add_row("accuracy", f"{experiment.score:.4f}", *(f"{accuracy:.4f}" for accuracy in accuracies))
    table.add_row("predictions", "", *(f"{count} differ" if count else "identical" for count in differences))
    table.add_row("requests/s", "", *(f"{len(run.labels) / run.seconds:,.0f}" for run in runs.values()))
    for percent in (50, 99):
        table.add_row(
            f"p{percent}, ms", "", *(f"{np.percentile(run.took, percent) * 1e3:.2f}" for run in runs.values())
        )
    console.print(table)
    return not any(differences)


def run(url: str, experiment: Experiment) -> bool:
    """Publish, call, compare."""
    with modelport.Client(url) as client:
        publish(client, experiment)
    runs = {concurrency: asyncio.run(measure(url, experiment.images, concurrency)) for concurrency in CONCURRENCIES}
    call_with_curl(url, experiment.images[0])
    console.print()
    return report(experiment, runs)


def main() -> int:
    """The exit status is 0 when the API gave the predictions of this process."""
    parser = argparse.ArgumentParser(description="Train, push, deploy and call a classifier of handwritten digits.")
    parser.add_argument("--url", help="a server that runs already; without it one is started")
    parser.add_argument("--keep", action="store_true", help="leave the service up")
    arguments = parser.parse_args()
    experiment = train()
    console.print(f"trained: {experiment.score:.1%} of the unseen images are read rightly")
    if arguments.url:
        return 0 if run(arguments.url, experiment) else 1
    with server(arguments.keep) as url:
        return 0 if run(url, experiment) else 1


if __name__ == "__main__":
    sys.exit(main())
