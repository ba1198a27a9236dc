"""Differences between answers: what is counted, what is allowed, which outputs belong together."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelport.conversion import arrays, parity
from modelport.errors import InvalidInput

SCORES = np.array([[0.1, 0.9], [0.6, 0.4], [0.5, 0.5]], np.float32)


def test_figures_of_scores_and_labels() -> None:
    before = {"label": np.array([b"b", b"a", b"a"], object), "scores": SCORES}
    after = {"label": np.array([b"b", b"a", b"b"], object), "scores": SCORES + np.float32(0.01)}
    found = parity.compare(before, after, 0.001)
    assert found.rows == 3 and found.rows_off == 1.0
    assert found.max_absolute == pytest.approx(0.01, rel=1e-4)
    assert found.max_relative == pytest.approx(0.1, rel=1e-4)
    assert found.label_agreement == pytest.approx(2 / 3)
    with pytest.raises(InvalidInput, match=r"100\.00% of 3 rows are off by more than 0\.001.*66\.67% of the labels"):
        parity.check(found, 0.001, 0.002)
    parity.check(parity.compare(before, after, 0.02), 0.02, 0.4)


def test_labels_that_all_differ_are_no_agreement() -> None:
    labels = np.array([1, 2])
    found = parity.compare({"label": labels}, {"label": labels + 1}, 0.001)
    assert found.label_agreement == 0.0
    with pytest.raises(InvalidInput, match="labels"):
        parity.check(found, 0.001, 0.002)


def test_what_is_not_a_number_has_to_be_so_on_both_sides() -> None:
    before = {"x": np.array([np.nan, np.inf, 1.0])}
    assert parity.compare(before, {"x": before["x"].copy()}, 0.001).rows_off == 0
    assert parity.compare(before, {"x": np.array([0.0, np.inf, 1.0])}, 0.001).rows_off == pytest.approx(1 / 3)
    assert parity.compare(before, {"x": np.array([np.nan, 1.0, 1.0])}, 0.001).rows_off == pytest.approx(1 / 3)


def test_outputs_belong_together_by_name_then_by_order() -> None:
    label, scores = np.array([b"x"], object), np.ones((1, 2))
    by_name = parity.pairs_of({"label": label, "scores": scores}, {"scores": scores, "label": label})
    assert [name for name, _, _ in by_name] == ["label", "scores"]
    by_order = parity.pairs_of({"a": scores}, {"b": scores})
    assert [name for name, _, _ in by_order] == ["b"]
    without_texts = parity.compare({"label": label, "scores": scores}, {"b": scores}, 0.001)
    assert without_texts.left_out == ["label"] and without_texts.outputs == ["b"]
    with pytest.raises(InvalidInput, match="no telling which belong together"):
        parity.pairs_of({"a": scores, "b": scores, "c": scores}, {"x": scores, "y": scores})


def test_another_shape_is_told() -> None:
    column = parity.compare({"x": np.ones(3)}, {"x": np.ones((3, 1))}, 0.001)
    assert column.rows_off == 0
    with pytest.raises(InvalidInput, match=r"output 'x' has the shape \[3, 2\] after the conversion, and had \[3\]"):
        parity.compare({"x": np.ones(3)}, {"x": np.ones((3, 2))}, 0.001)


@given(st.lists(st.binary(max_size=8), max_size=6), st.integers(0, 3))
def test_tensors_come_back_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, texts: list[bytes], rows: int
) -> None:
    file = tmp_path_factory.mktemp("arrays") / "tensors.npz"
    given_texts = np.empty(len(texts), object)
    given_texts[:] = texts
    tensors = {"a b": given_texts, "x": np.arange(rows * 2, dtype=np.float16).reshape(rows, 2), "": np.array([True])}
    arrays.save(tensors, file)
    found = arrays.load(file)
    assert list(found) == list(tensors)
    for name, array in tensors.items():
        assert found[name].dtype == array.dtype and found[name].shape == array.shape
        assert found[name].tolist() == array.tolist()


def test_a_pickle_is_not_read(tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.mktemp("arrays") / "tensors.npz"
    np.savez(file, names=np.array(["0000 x plain"]), k0=np.array([{"a": 1}], object))
    with pytest.raises(ValueError, match="allow_pickle"):
        arrays.load(file)


def test_what_is_only_told_is_not_judged() -> None:
    texts = np.array([b"a", b"b", b"c"], object)
    before = {"scores": SCORES, f"{parity.TOLD}logits": SCORES, f"{parity.TOLD}text": texts}
    other = np.array([b"a", b"x", b"y"], object)
    after = {"scores": SCORES.copy(), f"{parity.TOLD}logits": SCORES + 3, f"{parity.TOLD}text": other}
    found = parity.compare(before, after, 0.001)
    parity.check(found, 0.001, 0)
    assert found.outputs == ["scores"] and found.max_absolute == 0
    assert found.told == {"logits": pytest.approx(3), "text": pytest.approx(1 / 3)}
    assert parity.as_report(found)["told"] == found.told
