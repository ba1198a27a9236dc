"""A version that several files of tests begin with, made once."""

from __future__ import annotations

import pytest

from modelport.compression.method import Model
from modelport.training.recipe import TrainingData
from tests.compression.digits import version


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, TrainingData]:
    """A small network of scanned digits, only to be read."""
    return version(tmp_path_factory.mktemp("digits"))
