"""From a folder of images to an answer over HTTP, by one pipeline: pipeline.yaml beside this file.

    python examples/images/run.py             real scans of digits are written as PNG files first
    python examples/images/run.py FOLDER      your own, with a folder for each class

It starts a server of its own, runs the pipeline there, sends an image file as any program would, and stops.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from sklearn.datasets import load_digits

import modelport

PIPELINE = Path(__file__).with_name("pipeline.yaml")
COMMAND = [sys.executable, "-m", "modelport.cli.main"]


def write_digits(folder: Path) -> None:
    """The 1797 scanned digits that scikit-learn brings along, 8 × 8 pixels each, in folders named after their class."""
    digits = load_digits()
    for number, (image, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        place = folder / str(label)
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image * 15).astype("uint8")).save(place / f"{number:04}.png")


@contextmanager
def server(home: Path, images: Path) -> Iterator[dict[str, str]]:
    """A server that may read the images; gives the environment of its commands."""
    environment = os.environ | {"MODELPORT_HOME": str(home), "MODELPORT_DATA_ALLOW": json.dumps([images.as_uri()])}
    subprocess.run([*COMMAND, "up", "--detach", "--port", "0", "--grpc-port", "0"], env=environment, check=True)
    try:
        yield environment
    finally:
        subprocess.run([*COMMAND, "down"], env=environment, check=False)


def ask(url: str, image: Path) -> Any:
    """What a program does that knows nothing but HTTP: the file, as it is, in base64."""
    body = {"data": [base64.b64encode(image.read_bytes()).decode()]}
    request = urllib.request.Request(
        f"{url}/predict?model=scans", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def main() -> int:
    """The exit status is 0 when the image was read as its folder says."""
    parser = argparse.ArgumentParser(description="From a folder of images to an answer over HTTP.")
    parser.add_argument("folder", nargs="?", type=Path, help="images, in a folder for each class")
    parser.add_argument("--epochs", type=int, default=10)
    given = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="modelport-images-"))
    images = (given.folder or work / "digits").resolve()
    try:
        if given.folder is None:
            write_digits(images)
        with server(work / "home", images) as environment:
            settings = ["--set", f"source={images.as_uri()}", "--set", f"epochs={given.epochs}"]
            subprocess.run([*COMMAND, "run", str(PIPELINE), *settings, "--dry-run"], env=environment, check=True)
            subprocess.run([*COMMAND, "run", str(PIPELINE), *settings], env=environment, check=True)
            endpoint = json.loads((work / "home" / "run" / "endpoint.json").read_text())
            with modelport.Client(endpoint["url"], endpoint["token"]) as client:
                metrics = client.models.version("scans").manifest.metrics
                rows = client.datasets.get("scans-split-predictions").rows
            print(f"validation accuracy {metrics['validation_accuracy']:.4f}, test {metrics['test_accuracy']:.4f}")
            print(f"{rows} test images predicted in bulk")
            image = sorted(images.rglob("*.png"))[-1]
            answer = ask(endpoint["url"], image)
            print(f"{image.relative_to(images)}: {json.dumps(answer)}")
            return 0 if image.parent.name in json.dumps(answer) else 1
    finally:
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
