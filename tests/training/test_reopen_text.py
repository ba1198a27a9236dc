"""Classifiers of texts taken up again: as they answered, smaller, and with fewer words."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch

from modelport.errors import InvalidInput
from modelport.training.batches import in_turn
from modelport.training.language import smaller, vocabulary
from modelport.training.language.base import read_tokenizer
from modelport.training.recipe import Start, Trained, TrainingData
from modelport.training.reopen import Reopened, reopen
from tests.training import tiny_models
from tests.training.real_texts import topics
from tests.training.runs import new_run
from tests.training.test_text import SMALL, data_of, learn, served

pytestmark = pytest.mark.xdist_group("reopen-text")  # one training for all of them
Version = tuple[Start, TrainingData, Trained]


def written(out: Path, options: dict[str, Any]) -> Start:
    """The version as the job leaves it."""
    (out / "training" / "training.json").write_text(json.dumps({"recipe": "text", "params": {"options": options}}))
    return Start(out, {}, {}, [])


@pytest.fixture(scope="module", params=["small", pytest.param("bert", marks=pytest.mark.long)])
def version(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Version:
    folder = tmp_path_factory.mktemp(request.param)
    data = data_of(folder / "data", topics(240))
    options: dict[str, Any] = SMALL | {"epochs": 2, "layers": 2, "width": 32}
    code = None
    if request.param == "bert":
        code = tiny_models.bert(folder / "base", [text for text, _ in topics(240)])
        options = {"epochs": 1, "learning_rate": 1e-3}
    trained, out, _ = learn(folder, data, options, code=code)
    return written(out, options), data, trained


def again(folder: Path, version: Version) -> Reopened:
    run, _ = new_run(folder)
    return reopen(run, version[0], version[1])


def chances(opened: Reopened, network: torch.nn.Module) -> np.ndarray[Any, Any]:
    found = []
    with torch.no_grad():
        for batch in in_turn(opened.judged, 32):
            found.append(torch.softmax(network.eval()(*opened.inputs(batch)), -1).numpy())
    return np.concatenate(found)


def test_it_answers_as_it_is_served(version: Version, tmp_path: Path) -> None:
    opened = again(tmp_path, version)
    texts = [text for text, _ in topics(240)[180:]]
    assert np.allclose(chances(opened, opened.network), served(version[0].folder, version[2], texts), atol=1e-4)
    assert opened.figures(opened.network)["loss"] > 0
    batch = opened.plain.batch(torch.arange(4), 0)
    assert opened.loss(opened.network(*opened.inputs(batch)), batch).item() > 0
    counts = [smaller.parameters(opened.build(size)) for size in opened.sizes]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] < smaller.parameters(opened.network)
    assert counts[-1] * 2 < smaller.parameters(opened.network)


def test_a_smaller_one_with_fewer_words_is_written_and_taken_up_again(version: Version, tmp_path: Path) -> None:
    opened = again(tmp_path / "a", version)
    most = smaller.words_in(opened.network) * 9 // 10
    student = opened.build({"layers": 1, "vocabulary": most})
    assert isinstance(student, smaller.FewerWords)
    run, _ = new_run(tmp_path / "b")
    trained = opened.write(student.eval(), run)
    texts = [text for text, _ in topics(240)[180:]]
    small_tokenizer, old = (read_tokenizer(folder / "tokenizer.json") for folder in (run.out, version[0].folder))
    assert small_tokenizer.get_vocab_size() == len(student.kept) <= most < old.get_vocab_size()
    assert trained.report["parity"]["same_tokens"]
    answers = served(run.out, trained, texts)
    known = [set(old.encode(text).ids) <= set(student.kept) for text in texts]
    assert sum(known) > 0  # texts whose words are all known are cut as before
    assert np.allclose(answers[known], chances(opened, student)[known], atol=1e-4)
    start = written(run.out, {"model": "small" if opened.network.__class__.__name__ == "SmallClassifier" else "auto"})
    once_more = again(tmp_path / "c", (start, version[1], trained))
    assert np.allclose(chances(once_more, once_more.network), answers, atol=1e-4)


def test_bad_sizes_and_rows(version: Version, tmp_path: Path) -> None:
    opened = again(tmp_path / "a", version)
    for size, message in (
        ({"layer": 1}, "did you mean 'layers'"), ({"layers": 9}, "whole number from 0 to"),
        ({"width": 2}, "no share above 0"), ({"vocabulary": 3}, "has no place for the"),
    ):  # fmt: skip
        with pytest.raises(InvalidInput, match=message):
            opened.build(size)
    strange = data_of(tmp_path / "strange", [(text, "other") for text, _ in topics(240)[:20]])
    with pytest.raises(InvalidInput, match="class 'other' is not among"):
        again(tmp_path / "b", (version[0], strange, version[2]))


@pytest.mark.long
def test_a_network_that_was_cut_keeps_no_weights_and_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "v"
    data = data_of(folder / "data", topics(240))
    options = SMALL | {"epochs": 1, "layers": 1, "width": 32}
    trained, out, _ = learn(folder, data, options)
    opened = again(tmp_path / "a", (written(out, options), data, trained))
    network = opened.network
    feed = network.layers[0].forward_part  # type: ignore[union-attr,index]
    feed[0], feed[2] = torch.nn.Linear(32, 16), torch.nn.Linear(16, 32)
    run, _ = new_run(tmp_path / "b")
    found = opened.write(network.eval(), run)
    assert "training cannot go on from it" in found.warnings[0]
    assert not (run.out / "training").exists()
    assert served(run.out, found, [topics(240)[0][0]]).shape == (1, 4)


def kinds() -> Iterator[tuple[str, tokenizers.Tokenizer]]:
    """Tokenizers that learn from the same texts."""
    texts = [text for text, _ in topics(240)]
    for name, model, trainer in (
        ("wordpiece", tokenizers.models.WordPiece(unk_token="[UNK]"), tokenizers.trainers.WordPieceTrainer),
        ("bpe", tokenizers.models.BPE(unk_token="[UNK]"), tokenizers.trainers.BpeTrainer),
        ("unigram", tokenizers.models.Unigram(), tokenizers.trainers.UnigramTrainer),
    ):
        found = tokenizers.Tokenizer(model)
        found.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
        extra = {"unk_token": "[UNK]"} if name == "unigram" else {}
        found.train_from_iterator(
            texts, trainer(vocab_size=800, special_tokens=["[UNK]", "[CLS]", "[SEP]"], show_progress=False, **extra)
        )
        found.post_processor = tokenizers.processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
        )
        yield name, found


def test_fewer_words_cut_texts_of_known_words_as_before() -> None:
    texts = [text for text, _ in topics(240)]
    for name, tokenizer in kinds():
        rows = [found.ids for found in tokenizer.encode_batch(texts[:120])]
        kept = vocabulary.used(tokenizer, rows, 500)
        small = vocabulary.reduced(tokenizer, kept)
        assert small.get_vocab_size() == len(kept) <= 500, name
        place = {number: at for at, number in enumerate(kept)}
        same = 0
        for text in texts[120:]:
            old = tokenizer.encode(text).ids
            if set(old) <= set(kept):
                assert small.encode(text).ids == [place[one] for one in old], name
                same += 1
            assert small.decode(small.encode(text).ids)
        assert same > 3, name


def test_the_trainer_of_a_student_sees_the_same_rows(version: Version, tmp_path: Path) -> None:
    """Row by row: what is told of a row by its number holds whoever reads it."""
    opened = again(tmp_path, version)
    assert len(opened.plain) == len(opened.learning) == 180
    codes = opened.plain.batch(torch.arange(180), 0)[2].tolist()
    names = version[2].class_labels or []
    assert [names[code] for code in codes] == [label for _, label in topics(240)[:180]]
