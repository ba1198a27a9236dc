"""Shuts this process in: no network, only the folders that it is given, bounded memory, time and files.

What opens strangers' files calls ``confine`` before it imports a library that reads them; it holds for every child as
well, and nothing undoes it. On Linux: seccomp denies sockets and leaving the process group, Landlock (5.13 and later)
denies files, and where seccomp is not known for the processor, an empty network namespace. Standard library only.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import struct
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

#: A machine's audit number, and its numbers of: socket, io_uring_setup, ptrace, setsid, setpgid, open_by_handle_at.
_MACHINES = {
    "x86_64": (0xC000003E, (41, 425, 101, 112, 109, 304)),
    "aarch64": (0xC00000B7, (198, 425, 117, 157, 154, 265)),
}
_X32 = 0x40000000
_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS, _FILTER = 22, 38, 2
_ALLOW, _DENY = 0x7FFF0000, 0x00050001  # the call fails with EPERM
_NEW_USER, _NEW_NETWORK = 0x10000000, 0x40000000

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_EXECUTE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 2, 1 << 3
_LOOK = _EXECUTE | _READ_FILE | _READ_DIR
_WRITE_FILE, _TRUNCATE, _OF_FILES = 1 << 1, 1 << 14, 1 << 0 | 1 << 1 | 1 << 2 | 1 << 14 | 1 << 15
#: How many of the rights to files each release of Landlock knows.
_KNOWN = {1: 13, 2: 14, 3: 15, 4: 15}
_TCP, _SCOPES = 3, 3
#: What programs read wherever they run; of /proc nothing that is another process's.
_SYSTEM = (
    "/usr", "/lib", "/lib64", "/bin", "/etc/ld.so.cache", "/etc/localtime", "/etc/alternatives", "/proc/self",
    "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/version", "/sys/devices", "/sys/bus", "/sys/fs/cgroup",
    "/dev/urandom", "/dev/random", "/dev/zero",
)  # fmt: skip
#: What ``capset`` takes to leave a process of root's no privilege: version 3, this process, three empty sets twice.
_NO_PRIVILEGES = struct.pack("=Ii", 0x20080522, 0), bytes(24)


class CannotConfine(Exception):
    """This machine has no way to keep a process off the network."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a process may have."""

    read: tuple[str, ...]
    """Folders and files."""
    write: str
    """A folder."""
    memory_bytes: int
    cpu_s: int
    file_bytes: int
    """Of one file."""


def confine(bounds: Bounds) -> list[str]:
    """Shut this process in for good; what holds: ``network``, and ``files`` where the kernel has Landlock.

    Raises CannotConfine where there is no way to keep it off the network.
    """
    for what, most in (
        (resource.RLIMIT_CORE, 0), (resource.RLIMIT_DATA, bounds.memory_bytes), (resource.RLIMIT_CPU, bounds.cpu_s),
        (resource.RLIMIT_FSIZE, bounds.file_bytes),
    ):  # fmt: skip
        _, hard = resource.getrlimit(what)
        least = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (least, least))
    if sys.platform != "linux":
        raise CannotConfine(f"{sys.platform} offers no way to do it that Modelport knows")
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    held = ["files"] if _shut_files(libc, bounds) else []
    if not _shut_sockets(libc) and libc.unshare(_NEW_USER | _NEW_NETWORK) != 0 and libc.unshare(_NEW_NETWORK) != 0:
        raise CannotConfine("neither seccomp nor network namespaces may be used here")
    libc.capset(*_NO_PRIVILEGES)
    return ["network", *held]


def interpreter_folders() -> list[str]:
    """Where this interpreter and its packages are."""
    places = [sys.prefix, sys.base_prefix, sys.exec_prefix, os.path.realpath(sys.executable), *sys.path]
    return [place for place in dict.fromkeys(places) if place and Path(place).exists()]


def _shut_files(libc: ctypes.CDLL, bounds: Bounds) -> bool:
    """By Landlock; False where this kernel has none."""
    release = libc.syscall(_CREATE_RULESET, None, 0, 1)
    if release < 1:
        return False
    rights = (1 << _KNOWN.get(release, 16)) - 1
    about = struct.pack("=QQQ", rights, _TCP if release >= 4 else 0, _SCOPES if release >= 6 else 0)
    about = about[: 24 if release >= 6 else 16 if release >= 4 else 8]
    rules = libc.syscall(_CREATE_RULESET, about, len(about), 0)
    if rules < 0:
        return False
    try:
        _allow(libc, rules, (*_SYSTEM, *bounds.read), _LOOK & rights)
        _allow(libc, rules, ("/dev/null",), (_READ_FILE | _WRITE_FILE | _TRUNCATE) & rights)
        _allow(libc, rules, (bounds.write,), rights)
        return bool(libc.syscall(_RESTRICT_SELF, rules, 0) == 0)
    finally:
        os.close(rules)


def _allow(libc: ctypes.CDLL, rules: int, places: Iterable[str], rights: int) -> None:
    for place in places:
        try:
            found = os.open(place, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            own = rights if Path(place).is_dir() else rights & _OF_FILES
            libc.syscall(_ADD_RULE, rules, 1, struct.pack("=Qi", own, found), 0)
        finally:
            os.close(found)


def _shut_sockets(libc: ctypes.CDLL) -> bool:
    """By seccomp; False where it may not be used, or the processor is not known."""
    known = _MACHINES.get(platform.machine())
    if known is None or sys.maxsize < 1 << 32:
        return False
    program = _program(*known)
    steps = ctypes.create_string_buffer(b"".join(program))
    code = struct.pack("@HP", len(program), ctypes.addressof(steps))
    return bool(libc.prctl(_PR_SET_SECCOMP, _FILTER, code, 0, 0) == 0)


def _program(machine: int, denied: Sequence[int]) -> list[bytes]:
    """Berkeley packet filter: another machine's calls and those denied fail, all others are made."""
    load_number, load_machine = (0x20, 0, 0, 0), (0x20, 0, 0, 4)
    equal, at_least, give = 0x15, 0x35, 0x06
    deny_at = 4 + len(denied)
    steps = [load_machine, (equal, 0, deny_at - 2 + 1, machine), load_number, (at_least, deny_at - 4 + 1, 0, _X32)]
    steps += [(equal, deny_at - (4 + place) - 1 + 1, 0, number) for place, number in enumerate(denied)]
    steps += [(give, 0, 0, _ALLOW), (give, 0, 0, _DENY)]
    return [struct.pack("=HBBI", *step) for step in steps]
