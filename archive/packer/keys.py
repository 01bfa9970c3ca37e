"""Keys to sign archives with.

`key.pem` signs (`make archive SIGN_KEY=key.pem`) and stays where archives are packed; `key.pub.pem` goes to servers,
which get its absolute path in OPSERVE_PUBLIC_KEY. They are ordinary ed25519 keys, which OpenSSL makes as well:

    openssl genpkey -algorithm ed25519 -out key.pem
    openssl pkey -in key.pem -pubout -out key.pub.pem
"""

from __future__ import annotations

import os
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from archive.errors import ArchiveError


def load_private_key(path: Path) -> Ed25519PrivateKey:
    """Reads a key to sign with.

    Raises:
        ArchiveError: there is none, or it is of another kind.
    """
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise ArchiveError(f"SIGN_KEY {path}: cannot be read: {error.strerror}") from error
    except TypeError as error:
        raise ArchiveError(f"SIGN_KEY {path}: is protected by a password, which cannot be typed here") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ArchiveError(
            f"SIGN_KEY {path}: not a private key in PEM form; `python -m archive.keys {path.name}` makes one"
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ArchiveError(f"SIGN_KEY {path}: not an ed25519 key; `python -m archive.keys key.pem` makes one")
    return key


def make_keys(private: Path) -> Path:
    """Writes a new private key, readable by this user only, and its public half next to it, whose path it returns.

    Raises:
        ArchiveError: one of them exists; a key that archives were signed with must not be replaced by accident.
    """
    public = private.with_suffix(f".pub{private.suffix}")
    key = Ed25519PrivateKey.generate()
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    shared = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for path in (private, public):
        if path.exists():
            raise ArchiveError(f"{path} exists; remove it first if nothing needs it")
    for path, content, mode in ((private, secret, 0o600), (public, shared, 0o644)):
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(content)
    return public
