"""What admits a replica, and whether requests may share a run, for models that do not take just any text."""

from __future__ import annotations

from typing import Self

import numpy as np
import pytest

from modelport.engine.proof import ProofFailed, prove, why_not_batched
from modelport.engine.runtime import LoadOptions, Runtime
from modelport.errors import ModelRejectedInput
from modelport.tensors import Array, Signature, TensorSpec

SIGNATURE = Signature(
    (TensorSpec("day", "BYTES", (-1, 1)), TensorSpec("x", "FP64", (-1, 1))), (TensorSpec("y", "FP64", (-1,)),)
)
SAMPLE = {
    "inputs": [
        {"name": "day", "datatype": "BYTES", "shape": [2, 1], "data": ["2024-05-01", "2024-06-02"]},
        {"name": "x", "datatype": "FP64", "shape": [2, 1], "data": [1.0, 2.0]},
    ]
}


class Dates(Runtime):
    """Takes dates, and nothing else; ``mixes`` makes a row depend on its neighbours."""

    name = platform = "dates"

    def __init__(self, mixes: bool = False) -> None:
        self._mixes = mixes

    @classmethod
    def load(cls, options: LoadOptions) -> Self:
        return cls()

    def infer(self, inputs: dict[str, Array]) -> dict[str, Array]:
        texts = [text.decode() for text in inputs["day"].reshape(-1)]
        if not all(text[:4].isdigit() for text in texts):
            raise ModelRejectedInput(f"{texts[0]!r} is no date")
        days = np.array([float(text[-2:]) for text in texts]) + inputs["x"].reshape(-1)
        return {"y": days + days.mean() if self._mixes else days}


def test_rows_that_share_a_run_are_made_of_texts_that_are_understood() -> None:
    runtime = Dates()
    assert why_not_batched(runtime, SIGNATURE, prove(runtime, SIGNATURE, SAMPLE)) is None


def test_rows_that_depend_on_each_other_are_still_found() -> None:
    runtime = Dates(mixes=True)
    assert "depends on the other rows" in str(why_not_batched(runtime, SIGNATURE, prove(runtime, SIGNATURE, SAMPLE)))


def test_without_a_sample_it_says_what_would_help() -> None:
    with pytest.raises(ProofFailed, match="is no date; push it with --sample"):
        prove(Dates(), SIGNATURE, None)
