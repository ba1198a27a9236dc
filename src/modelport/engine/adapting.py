"""Which LoRA adapters a language model's replica is to hold: told whole, so that telling it again changes nothing.

Whoever decides asks the replica by a frame of its own, beside the gateways' connections. Knows frames; knows neither
deployments nor engines. What an adapter is called here is unique to its files.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec

from modelport.engine import frames

_ANSWER_S = 120.0


class Adapt(msgspec.Struct, frozen=True):
    """What a replica is told."""

    folders: dict[str, str]
    """Of each adapter by its name: no others are held from now on."""


class Adapted(msgspec.Struct, frozen=True):
    """What it answers."""

    refused: dict[str, str] = {}
    """Why, by name; all others are held."""
    language: dict[str, Any] = {}
    """Its ``generation.Facts`` after that, as JSON."""


def to_adapt(data: Any) -> Adapt:
    """Raises msgspec.MsgspecError."""
    return msgspec.json.decode(data, type=Adapt)


async def tell(socket: str, folders: dict[str, Path]) -> Adapted:
    """Tell the replica that listens there; raises OSError when it does not answer."""
    asked = Adapt({name: str(folder) for name, folder in folders.items()})
    try:
        async with asyncio.timeout(_ANSWER_S):
            reader, writer = await asyncio.open_unix_connection(socket)
            try:
                for buffer in frames.encode(frames.ADAPT, data=msgspec.json.encode(asked)):
                    writer.write(buffer)
                head = await reader.readexactly(frames.HEAD.size)
                answer = frames.decode(head, await reader.readexactly(frames.body_size(head)))
                return msgspec.json.decode(answer.data, type=Adapted)
            finally:
                writer.close()
    except (EOFError, TimeoutError, frames.BrokenFrame, msgspec.MsgspecError) as error:
        raise OSError(f"the replica did not answer ({type(error).__name__})") from None
