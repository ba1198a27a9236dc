"""Binding the ports of a server, once, for all of its processes. Only the standard library."""

from __future__ import annotations

import ipaddress
import socket


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that listens there."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class CannotStart(Exception):
    """Said in one line to the person who typed ``up``."""


def bind(host: str, port: int, count: int, flag: str, *, listen: bool = True) -> tuple[list[socket.socket], int]:
    """``count`` sockets on one address, shared among the gateways by the kernel; refuses a port in use.

    The first bind is exclusive: a port with address reuse would otherwise be shared silently with another server.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            port = probe.getsockname()[1]
            probe.listen(1)
    except OSError as error:
        raise CannotStart(f"cannot listen on {host}:{port}: {error.strerror}; choose another with {flag}") from None
    bound = []
    for _ in range(count):
        sock = socket.socket(family)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((host, port))
        if listen:
            sock.listen(2048)
        bound.append(sock)
    return bound, port
