"""Compiles what texts have to be before a step of OpenVINO GenAI's needs it, and bounds what is kept of it.

The library compiles a grammar in the step that begins its first text, and all texts wait for it, up to a second. The
compiler and its cache are the tokenizer's, so a network without weights that has the real one's tokenizer, asked for
one token in another thread, leaves there what the real one's step then finds. The library never forgets a grammar; but
it begins another cache when the logits get another width, which is how it is made to. Seen with OpenVINO GenAI 2026.4,
and in its ``TokenizerImpl::get_structured_output_controller``.
"""

from __future__ import annotations

import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import openvino_genai as genai
from openvino import opset13 as ops

_MB = 512
"""Of grammars that are kept."""
_KB_OF_A_PLACE = 30
"""At most, measured on six kinds of schemas; see ``language.grammar_cost``."""
_ANOTHER = 64
"""How much wider the logits are that make it forget."""
_ANY = 'root ::= "a"'


class Grammars:
    """Of one tokenizer, for a model whose logits are ``width`` wide."""

    def __init__(self, tokenizer: Any, width: int) -> None:
        self._tokenizer, self._width = tokenizer, width
        self._writer: Any = None
        self._known: set[int] = set()
        self._places = 0.0
        self.changing = threading.Lock()
        """Held while the cache is another one's: no step may look for a grammar meanwhile."""

    def __contains__(self, key: int) -> bool:
        return key in self._known

    def add(self, key: int, structure: Any, places: float) -> None:
        """Compile one, which costs so many places where any character may stand. Raises RuntimeError."""
        if self._writer is None:
            self._writer = _writer(self._tokenizer, self._width)
        places += 1
        if self._places + places > _MB * 1000 / _KB_OF_A_PLACE:
            with self.changing:
                self._known.clear()
                self._places = 0.0
                _write(_writer(self._tokenizer, self._width + _ANOTHER), _plain())
                _write(self._writer, _plain())
        _write(self._writer, structure)
        self._known.add(key)
        self._places += places


def _plain() -> Any:
    structure = genai.StructuredOutputConfig()
    structure.grammar = _ANY
    return structure


def _write(writer: Any, structure: Any) -> None:
    how = genai.GenerationConfig()
    how.max_new_tokens, how.ignore_eos, how.apply_chat_template = 1, True, False
    how.structured_output_config = structure
    writer.generate(openvino.Tensor(np.zeros((1, 1), np.int64)), how)


def _writer(tokenizer: Any, width: int) -> Any:
    """A pipeline to which all tokens are alike."""
    given = {
        name: ops.parameter(shape, kind, name=name)
        for name, shape, kind in (
            ("input_ids", [-1, -1], np.int64), ("attention_mask", [-1, -1], np.int64),
            ("position_ids", [-1, -1], np.int64), ("beam_idx", [-1], np.int32),
        )
    }  # fmt: skip
    for name, each in given.items():
        each.output(0).set_names({name})
    shape = ops.concat([ops.shape_of(given["input_ids"]), ops.constant(np.array([width], np.int64))], 0)
    logits = ops.broadcast(ops.constant(np.zeros((1, 1, 1), np.float32)), shape)
    for name in ("attention_mask", "position_ids", "beam_idx"):  # what nothing depends on is no input
        axes = ops.constant(np.arange(len(given[name].get_partial_shape())))
        nothing = ops.multiply(
            ops.convert(ops.reduce_sum(given[name], axes, False), "f32"), ops.constant(np.float32(0))
        )
        logits = ops.add(logits, nothing)
    logits.output(0).set_names({"logits"})
    network = openvino.Model([ops.result(logits)], list(given.values()), "any")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "any.xml"
        openvino.save_model(network, file)
        weights = openvino.Tensor(np.fromfile(file.with_suffix(".bin"), np.uint8))
        how = {"ATTENTION_BACKEND": "SDPA", "INFERENCE_NUM_THREADS": 1}
        return genai.LLMPipeline(file.read_text(), weights, tokenizer, "CPU", **how)
