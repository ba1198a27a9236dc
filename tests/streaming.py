"""A plug-in that streams: the words of a text, one part each. Enters by the real door, an installed entry point."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from modelport.engine.runtime import Format, Inspected, LoadOptions, Runtime, Streams, Trust
from modelport.errors import ModelRejectedInput
from modelport.telemetry import log
from modelport.tensors import Array, Signature, TensorSpec

ROOT = Path(__file__).parents[1]
SIGNATURE = Signature(
    (TensorSpec("prompt", "BYTES", (1,)), TensorSpec("pause_ms", "INT64", (1,))),
    (TensorSpec("word", "BYTES", (1,)), TensorSpec("index", "INT64", (1,))),
)
_MAGIC = "words-model"


class WordsFormat(Format):
    """A file that begins with a magic word."""

    name = "words"

    def recognises(self, folder: Path, files: tuple[str, ...]) -> bool:
        return len(files) == 1 and (folder / files[0]).read_bytes()[:32].decode(errors="replace").startswith(_MAGIC)

    def inspect(self, folder: Path, files: tuple[str, ...], trust: Trust) -> Inspected:
        return Inspected("words", "words", SIGNATURE)


class WordsRuntime(Runtime, Streams):
    """Says the prompt word by word, with a pause after each; the word ``fail`` is refused."""

    name = "words"
    platform = "words_v1"

    @classmethod
    def load(cls, options: LoadOptions) -> WordsRuntime:
        return cls()

    def infer(self, inputs: dict[str, Array]) -> dict[str, Array]:
        parts = list(self.stream(inputs))
        return {"word": _text(b" ".join(part["word"][0] for part in parts)), "index": np.array([len(parts)], np.int64)}

    def stream(self, inputs: dict[str, Array]) -> Iterator[dict[str, Array]]:
        words, given = inputs["prompt"][0].split(), 0
        try:
            for word in words:
                if word == b"fail":
                    raise ModelRejectedInput("the word 'fail' is not said")
                yield {"word": _text(word), "index": np.array([given], np.int64)}
                given += 1
                time.sleep(int(inputs["pause_ms"][0]) / 1e3)
        finally:
            if words:
                log("words_ended", given=given, of=len(words))


def _text(word: bytes) -> Array:
    array = np.empty(1, object)
    array[0] = word
    return array


def write_model(folder: Path) -> Path:
    """A model file of this plug-in's format."""
    path = folder / "words.txt"
    path.write_text(_MAGIC)
    return path


def installed(folder: Path) -> str:
    """PYTHONPATH under which the plug-in is an installed distribution."""
    info = folder / "modelport_words-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: modelport-words\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[modelport.formats]\nwords = tests.streaming:WordsFormat\n"
        "[modelport.runtimes]\nwords = tests.streaming:WordsRuntime\n"
    )
    return f"{folder}:{ROOT}"
