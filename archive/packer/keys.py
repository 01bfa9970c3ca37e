"""Makes a pair of keys to sign archives with: `python -m archive.packer.keys key.pem`.

`key.pem` signs (`make archive SIGN_KEY=key.pem`) and stays with who packs; `key.pub.pem` goes to the servers, which are
given its absolute path in OPSERVE_PUBLIC_KEY. They are ordinary ed25519 keys; OpenSSL makes the same ones:

    openssl genpkey -algorithm ed25519 -out key.pem
    openssl pkey -in key.pem -pubout -out key.pub.pem
"""

from __future__ import annotations

import argparse
import os
import sys
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
        raise ArchiveError(f"SIGN_KEY {path}: is protected by a password, which nobody could type here") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ArchiveError(
            f"SIGN_KEY {path}: holds no private key in PEM form; `python -m archive.packer.keys {path.name}` makes one"
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ArchiveError(f"SIGN_KEY {path}: is no ed25519 key; `python -m archive.packer.keys key.pem` makes one")
    return key


def make_keys(private: Path) -> Path:
    """Writes a new private key, for this user alone, and its public half beside it, whose path it returns.

    Raises:
        ArchiveError: one of them exists; a key that archives were signed with is not replaced by accident.
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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("key", type=Path, metavar="KEY.pem", help="where the private key is written")
    arguments = parser.parse_args()
    try:
        public = make_keys(arguments.key)
    except (ArchiveError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{arguments.key}: private; sign with make archive SIGN_KEY={arguments.key}")
    print(f"{public}: public; servers that are given OPSERVE_PUBLIC_KEY={public.resolve()} demand its signature")
    return 0


if __name__ == "__main__":
    sys.exit(main())
