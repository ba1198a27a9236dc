"""Pieces of words that are learnt from rows: the same ones in every process, and nothing unknown."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tokenizers.decoders import ByteLevel

from modelport.training.language.pieces import PAD, START, learnt_tokenizer
from tests.training.real_texts import topics

_ANOTHER = """
from modelport.training.language.pieces import learnt_tokenizer
from tests.training.real_texts import topics
print(learnt_tokenizer([text for text, _ in topics(200)], 1000, True).to_str())
"""


@pytest.mark.long
def test_every_process_learns_the_same_pieces() -> None:
    """tokenizers' tables are in another order in every process."""
    mine = learnt_tokenizer([text for text, _ in topics(200)], 1000, True).to_str()
    found = subprocess.run(
        [sys.executable, "-c", _ANOTHER], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    )
    assert found.stdout.strip() == mine


def test_nothing_is_unknown() -> None:
    tokenizer = learnt_tokenizer(["A cat sat on a mat."] * 3, 300, True)
    found = tokenizer.encode("Ein 猫 🐈 saß…")
    assert found.tokens[0] == START
    assert ByteLevel().decode(found.tokens[1:]).split() == ["ein", "猫", "🐈", "saß…"]
    assert tokenizer.encode("").tokens == [START]
    assert tokenizer.token_to_id(PAD) == 0
