"""The key with which a home signs what leaves it: Ed25519, made when first needed, readable by its owner alone."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from modelport.errors import Unavailable

_FILE = "signing.pem"


class SigningKey:
    """One home's."""

    def __init__(self, home: Path) -> None:
        """Reads the key, or makes it; raises Unavailable when the file holds another kind of key."""
        path = home / _FILE
        if not path.exists():
            _make(path)
        found = load_pem_private_key(path.read_bytes(), None)
        if not isinstance(found, Ed25519PrivateKey):
            raise Unavailable(f"{_FILE} in the home holds no Ed25519 key; move it away, and a new one is made")
        self._key = found

    def sign(self, content: bytes) -> bytes:
        """The signature, 64 bytes (RFC 8032)."""
        return self._key.sign(content)

    @property
    def public_pem(self) -> bytes:
        """The public key, as openssl reads it."""
        return self._key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _make(path: Path) -> None:
    """Write a key whole or not at all; somebody else's, made at the same time, stays."""
    own = path.with_name(f"{_FILE}.{os.getpid()}")
    pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with os.fdopen(os.open(own, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(pem)
        file.flush()
        os.fsync(file.fileno())
    with suppress(FileExistsError):
        os.link(own, path)
    own.unlink()
