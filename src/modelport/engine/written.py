"""What a language model's steps mean for the requests that a gateway has sent: their parts, their end, their going on.

The same request gives the same text again: one whose replica dies is written again by another, and given from behind
what was given.
Knows links and requests; knows no queue.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import msgspec

from modelport import errors
from modelport.engine.frames import Frame
from modelport.engine.generation import decode_parts, to_tensors
from modelport.engine.link import MAX_UNREAD, PART_BYTES, Link, Pending
from modelport.engine.requests import InferResult
from modelport.engine.stats import EndpointStats


def gained(
    link: Link, frame: Frame, stats: EndpointStats, give_up: Callable[[Pending, errors.ModelportError], None]
) -> None:
    """Each of the frame's requests has a part more; those that are complete leave the link."""
    link.last_ok = time.monotonic()
    now = time.perf_counter_ns()
    for item, part in zip(frame.items, decode_parts(frame.data), strict=True):
        pending = link.inflight.get(item.id)
        if pending is None or pending.parts is None:
            continue
        pending.begun = True
        if pending.counted is not None:
            pending.counted.gained(part, pending.sent_ns, now)
        if not pending.future.done():
            pending.parts.put_nowait(part)
            pending.done.extend(part.tokens)
            pending.done_text += len(part.text)
            pending.unread += PART_BYTES
            if pending.unread > MAX_UNREAD:
                link.cancel(pending)
                give_up(pending, errors.Cancelled("the reader of this stream is too far behind; read faster"))
        if part.finish is not None:
            del link.inflight[item.id]
            stats.answered(pending.queued_ns, pending.sent_ns, now)
            stats.ran(1, now - pending.sent_ns)
            if not pending.future.done():
                pending.future.set_result(InferResult({}, compute_ns=now - pending.sent_ns))
                pending.parts.put_nowait(None)


def under_way(requests: Iterable[Pending]) -> dict[str, tuple[int, int]]:
    """How many texts of each caller are being written, and how many are not yet begun."""
    found: dict[str, tuple[int, int]] = {}
    for pending in requests:
        if pending.counted is not None and not pending.future.done():
            writing, waiting = found.get(pending.caller, (0, 0))
            found[pending.caller] = (writing + pending.begun, waiting + (not pending.begun))
    return found


def take_up(pending: Pending) -> None:
    """What it has got already becomes a part of what is asked: the next replica gives only what comes behind it."""
    assert pending.asked is not None
    asked = msgspec.structs.replace(pending.asked, done=tuple(pending.done), done_text=pending.done_text)
    pending.inputs = to_tensors(asked)
