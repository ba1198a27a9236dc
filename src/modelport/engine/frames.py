"""The wire between a gateway and a replica: one columnar frame per batch over a byte stream, without pickle.

A frame is a fixed head, a table of requests, a table of tensors, and the tensors' bytes one after the other, each
starting at a multiple of 8. Everything is little-endian. One frame carries a whole batch: the ids and row counts of
its requests, and one stacked tensor per input, so that the cost of a hop is shared.

    head      magic "MP", version u8, kind u8, requests u32, tensors u32, table bytes u32, data bytes u64, ns u64
    request   id u64, deadline u64, rows u32, traced u8, length u8, request id
    tensor    datatype u8, dims u8, name length u16, bytes u64, dims x i64, name

Where both sides share memory, the bytes of large tensors lie there, and only head and tables take the socket.
Knows tensors; knows neither queues nor models. Imports only the standard library and numpy.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from modelport.errors import ModelportError
from modelport.tensors import DATATYPES, Array, datatype_of, dtype_of, to_buffer, unpack_bytes

VERSION: Final = 3

HELLO: Final = 1
"""Replica to gateway, in answer to CONNECT: the connection's number (u64), and whether it shares the memory (u8)."""
RUN: Final = 2
"""Gateway to replica: a batch to run."""
RESULT: Final = 3
"""Replica to gateway: the outputs of the named requests, stacked in their order; ``ns`` is the time of the run."""
FAILED: Final = 4
"""Replica to gateway: one request could not be run; the data is ``code NUL message``."""
ALIVE: Final = 5
"""Replica to gateway: a proof inference has succeeded just now."""
STREAM: Final = 6
"""Gateway to replica: one request whose answer is wanted in parts."""
PART: Final = 7
"""Replica to gateway: one part of an answer."""
END: Final = 8
"""Replica to gateway: the answer is complete; ``ns`` is the time of all parts."""
CANCEL: Final = 9
"""Gateway to replica: nobody waits for the rest of a stream."""
CONNECT: Final = 10
"""Gateway to replica, once, when connected; the descriptor of shared memory may come with it."""
ASK: Final = 11
"""Gateway to replica: requests wait here while another gateway's frame is run; say when it is their turn."""
GRANT: Final = 12
"""Replica to gateway, in answer to ASK: it is your turn."""
PASS: Final = 13
"""Gateway to replica, in answer to GRANT: nothing waits any more."""
AHEAD: Final = 14
"""In place of CONNECT, of a connection whose frames are run before those that wait on others."""
TOKENS: Final = 15
"""Replica of a language model to gateway: what each of the named requests gained by a step; the data is their parts
as JSON (``generation``), and a part that says how it finished ends its request."""
ADAPT: Final = 16
"""Control to a language model's replica: the adapters that it holds from now on, and back: what could not be done; the
data is JSON (``adapting``)."""

COUNTED: Final = "#tokens"
"""A tensor of RESULT beside the model's outputs: how many tokens each row's texts were, INT32 [rows]."""

_IN_SLAB: Final = 0x80
"""Added to a kind: the tensors' bytes lie in shared memory."""
_LARGE: Final = 64 << 10
"""From so many bytes on shared memory is the shorter way."""

HEAD: Final = struct.Struct("<2sBBIIIQQ")
_REQUEST: Final = struct.Struct("<QQIBB")
_TENSOR: Final = struct.Struct("<BBHQ")
_MAGIC: Final = b"MP"
_MAX_TABLE: Final = 1 << 26
_MAX_DATA: Final = 1 << 36
_PADDING: Final = bytes(8)

Buffer = bytes | bytearray | memoryview


class BrokenFrame(ModelportError):
    """The other side does not speak this protocol."""

    code = "broken_frame"


@dataclass(slots=True)
class Item:
    """One request inside a frame."""

    id: int
    rows: int
    request_id: str = ""
    traced: bool = False
    deadline_ns: int = 0
    """On this machine's monotonic clock; past it nobody wants the answer. 0 for none."""


@dataclass(slots=True)
class Frame:
    """A decoded frame; tensors are views of the received bytes."""

    kind: int
    items: list[Item]
    tensors: dict[str, Array]
    ns: int = 0
    data: Buffer = b""
    in_slab: bool = False
    """Whether the tensors are views of shared memory, which the other side writes again after the next frame."""


def encode(
    kind: int,
    items: Sequence[Item] = (),
    tensors: dict[str, Array] | None = None,
    *,
    ns: int = 0,
    data: bytes = b"",
    slab: memoryview | None = None,
) -> list[Buffer]:
    """The buffers of one frame, to be written one after the other; large tensors are copied into ``slab`` or not."""
    table = bytearray()
    for item in items:
        raw = item.request_id.encode()[:255]
        table += _REQUEST.pack(item.id, item.deadline_ns, item.rows, item.traced, len(raw))
        table += raw
    buffers: list[Buffer] = []
    size = len(data)
    if tensors:
        for name, array in tensors.items():
            raw_name = name.encode()
            payload = to_buffer(array)
            length = len(payload)
            table += _TENSOR.pack(DATATYPES.index(datatype_of(array.dtype)), array.ndim, len(raw_name), length)
            table += struct.pack(f"<{array.ndim}q", *array.shape)
            table += raw_name
            buffers.append(payload)
            padding = -length % 8
            if padding:
                buffers.append(_PADDING[:padding])
            size += length + padding
    else:
        tensors = {}
        buffers.append(data)
    table += _PADDING[: -(HEAD.size + len(table)) % 8]
    in_slab = slab is not None and tensors and _LARGE <= size <= len(slab)
    head = HEAD.pack(
        _MAGIC, VERSION, kind | _IN_SLAB if in_slab else kind, len(items), len(tensors), len(table), size, ns
    )
    small = head + table
    if slab is not None and in_slab:
        position = 0
        for buffer in buffers:
            slab[position : position + len(buffer)] = buffer
            position += len(buffer)
        return [small]
    if size <= 1 << 16:  # one write of one buffer costs less than several
        return [b"".join((small, *buffers))]
    return [small, *buffers]


def kind_of(head: Buffer) -> int:
    """The kind of the frame that begins with this head."""
    return head[3] & ~_IN_SLAB


def body_size(head: Buffer) -> int:
    """How many bytes follow a head; raises BrokenFrame when it is none."""
    magic, version, kind, _, _, table, data, _ = HEAD.unpack(head)
    if magic != _MAGIC or version != VERSION:
        raise BrokenFrame(f"the other side speaks frame version {version}, this one {VERSION}")
    if table > _MAX_TABLE or data > _MAX_DATA:
        raise BrokenFrame("a frame is larger than any can be")
    return int(table) if kind & _IN_SLAB else int(table + data)


def decode(head: Buffer, body: Buffer, slab: memoryview | None = None) -> Frame:
    """The inverse of encode. Raises BrokenFrame; tensors are views of ``body``, or of ``slab`` where they lie there."""
    _, _, kind, n_items, n_tensors, table_size, size, ns = HEAD.unpack(head)
    view = memoryview(body)
    payload = view[table_size:]
    if kind & _IN_SLAB:
        if slab is None or size > len(slab):
            raise BrokenFrame("a frame's tensors lie in memory that is not shared")
        payload = slab[:size]
    try:
        frame = _decode(view, payload, kind & ~_IN_SLAB, n_items, n_tensors, ns)
    except (struct.error, ValueError, IndexError, ModelportError) as error:
        raise BrokenFrame(f"a frame does not hold what its head says: {error}") from None
    frame.in_slab = bool(kind & _IN_SLAB)
    return frame


def _decode(view: memoryview, payloads: memoryview, kind: int, n_items: int, n_tensors: int, ns: int) -> Frame:
    position = 0
    items: list[Item] = []
    for _ in range(n_items):
        number, deadline_ns, rows, traced, length = _REQUEST.unpack_from(view, position)
        position += _REQUEST.size
        request_id = str(view[position : position + length], "utf-8") if length else ""
        items.append(Item(number, rows, request_id, bool(traced), deadline_ns))
        position += length
    tensors: dict[str, Array] = {}
    offset = 0
    for _ in range(n_tensors):
        code, ndim, name_length, size = _TENSOR.unpack_from(view, position)
        position += _TENSOR.size
        shape = struct.unpack_from(f"<{ndim}q", view, position)
        position += 8 * ndim
        name = str(view[position : position + name_length], "utf-8")
        position += name_length
        payload = payloads[offset : offset + size]
        if len(payload) != size:
            raise BrokenFrame(f"tensor {name!r} is cut short")
        offset += size + (-size % 8)
        datatype = DATATYPES[code]
        if datatype == "BYTES":
            count = math.prod(shape)
            if not 0 <= count <= len(payload) // 4:  # each string has a length of 4 bytes
                raise BrokenFrame(f"tensor {name!r} holds fewer strings than its shape says")
            tensors[name] = unpack_bytes(payload, count, name).reshape(shape)
        else:
            tensors[name] = np.frombuffer(payload, dtype_of(datatype)).reshape(shape)
    data = payloads if not n_tensors else b""
    return Frame(kind, items, tensors, ns, data)
