"""Whose frame a replica is running, in eight bytes of shared memory that outlive it.

When a replica dies, every gateway has a frame there that is unanswered, and only one of them was being run. The others
are innocent: they are sent again and count no death. Knows numbers of connections; knows no frame and no request.
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

_NUMBER = struct.Struct("<Q")


def mark_of(socket: str) -> Path:
    """The file beside a replica's socket, in the working folder of both sides."""
    return Path(f"{socket}.running")


class Running:
    """The number of the connection whose frame is run; 0 for none. Numbers begin with 1."""

    def __init__(self, memory: mmap.mmap) -> None:
        self._memory = memory

    @classmethod
    def create(cls, socket: str) -> Running:
        """For the replica."""
        path = mark_of(socket)
        path.unlink(missing_ok=True)
        path.write_bytes(bytes(_NUMBER.size))
        with path.open("r+b") as file:
            return cls(mmap.mmap(file.fileno(), _NUMBER.size))

    @classmethod
    def open(cls, socket: str) -> Running | None:
        """For a gateway; None where there is no such memory, and nothing can be known."""
        try:
            with mark_of(socket).open("rb") as file:
                return cls(mmap.mmap(file.fileno(), _NUMBER.size, prot=mmap.PROT_READ))
        except (OSError, ValueError):
            return None

    @property
    def connection(self) -> int:
        """Whose frame is run, or was when the replica died."""
        number: int = _NUMBER.unpack_from(self._memory)[0]
        return number

    @connection.setter
    def connection(self, number: int) -> None:
        _NUMBER.pack_into(self._memory, 0, number)
