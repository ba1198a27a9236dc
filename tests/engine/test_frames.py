"""Frames: whatever goes in comes out, and garbage is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from modelport.engine import frames
from modelport.engine.frames import HEAD, Item
from modelport.tensors import DATATYPES, Array, dtype_of

SHAPES = arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)


@st.composite
def tensors(draw: st.DrawFn) -> Array:
    datatype = draw(st.sampled_from(DATATYPES))
    shape = draw(SHAPES)
    if datatype == "BYTES":
        count = int(np.prod(shape))
        flat = np.empty(count, dtype=object)
        for index in range(count):
            flat[index] = draw(st.binary(max_size=9))
        return flat.reshape(shape)
    dtype = dtype_of(datatype)
    size = int(np.prod(shape)) * dtype.itemsize
    raw = draw(st.binary(min_size=size, max_size=size))
    if datatype == "BOOL":
        raw = bytes(byte & 1 for byte in raw)
    return np.frombuffer(raw, dtype).reshape(shape)


items = st.lists(
    st.builds(
        Item,
        st.integers(0, 2**64 - 1),
        st.integers(0, 2**32 - 1),
        st.text(max_size=20),
        st.booleans(),
        st.integers(0, 2**64 - 1),
    ),
    max_size=5,
)


@given(items, st.dictionaries(st.text(max_size=8), tensors(), max_size=4), st.integers(0, 2**64 - 1))
def test_round_trip(sent: list[Item], named: dict[str, Array], ns: int) -> None:
    raw = b"".join(frames.encode(frames.RUN, sent, named, ns=ns))
    head, body = raw[: HEAD.size], raw[HEAD.size :]
    assert frames.body_size(head) == len(body)
    frame = frames.decode(head, body)
    assert (frame.kind, frame.items, frame.ns) == (frames.RUN, sent, ns)
    assert list(frame.tensors) == list(named)
    for name, array in named.items():
        got = frame.tensors[name]
        assert got.dtype == array.dtype
        assert got.shape == array.shape
        if array.dtype == object:
            assert got.tolist() == array.tolist()
        else:
            assert got.tobytes() == array.tobytes()


@given(st.binary(min_size=HEAD.size, max_size=400))
def test_garbage_is_a_broken_frame(raw: bytes) -> None:
    with pytest.raises(frames.BrokenFrame):
        frames.body_size(raw[: HEAD.size])
        frames.decode(raw[: HEAD.size], raw[HEAD.size :])


@given(st.data())
def test_a_damaged_frame_never_surprises(data: st.DataObject) -> None:
    named = {"x": np.arange(6, dtype=np.float32).reshape(2, 3), "s": np.array([b"a", b"bc"], dtype=object)}
    raw = bytearray(b"".join(frames.encode(frames.RUN, [Item(1, 2, "id")], named)))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(4, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        frames.body_size(bytes(raw[: HEAD.size]))
        frames.decode(bytes(raw[: HEAD.size]), bytes(raw[HEAD.size :]))
    except frames.BrokenFrame:
        pass


def test_message_of_a_failure_survives() -> None:
    raw = b"".join(frames.encode(frames.FAILED, [Item(7, 1)], data="code\0text é".encode()))
    frame = frames.decode(raw[: HEAD.size], raw[HEAD.size :])
    assert bytes(frame.data).decode() == "code\0text é"
