"""Memory that one gateway and one replica share: large tensors cross it instead of being copied through a socket.

The gateway makes it (a memfd, sealed so that neither side can shrink it beneath the other), and hands it over when it
connects. One half is written by the gateway, the other by the replica; a connection has one frame under way at most, so
that neither half needs any bookkeeping. Untouched pages take no memory. Knows bytes; knows no frame.
"""

from __future__ import annotations

import fcntl
import mmap
import os

_HALF = 64 << 20
"""Bytes each way; larger frames go through the socket."""
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL if hasattr(fcntl, "F_SEAL_SHRINK") else 0


class Slab:
    """Both halves, as one side sees them."""

    def __init__(self, fd: int, *, is_gateway: bool) -> None:
        whole = memoryview(mmap.mmap(fd, 2 * _HALF))
        halves = whole[:_HALF], whole[_HALF:]
        self.mine, self.theirs = halves if is_gateway else halves[::-1]
        """What this side writes, and what it reads."""

    @classmethod
    def create(cls) -> tuple[Slab, int] | None:
        """For a gateway: a fresh one, and its descriptor to hand over; None where the system has no such thing."""
        if not hasattr(os, "memfd_create") or not _SEALS:
            return None
        try:
            fd = os.memfd_create("modelport", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        except OSError:
            return None
        try:
            os.ftruncate(fd, 2 * _HALF)
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
            return cls(fd, is_gateway=True), fd
        except OSError:
            os.close(fd)
            return None

    @classmethod
    def adopt(cls, fd: int) -> Slab | None:
        """For a replica: the one that was handed over; None for one that is not sealed or has another size."""
        try:
            if fcntl.fcntl(fd, fcntl.F_GET_SEALS) & _SEALS != _SEALS or os.fstat(fd).st_size != 2 * _HALF:
                return None
            return cls(fd, is_gateway=False)
        except OSError:
            return None
        finally:
            os.close(fd)
