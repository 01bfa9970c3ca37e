"""The signature of an archive: `opserve.sig`, made of the manifest, which holds the hash of everything else."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from handlers.errors import ModelError
from handlers.integrity.manifest import MANIFEST_FILE

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

SIGNATURE_FILE = "opserve.sig"  # ed25519, 64 bytes
PUBLIC_KEY_VARIABLE = "OPSERVE_PUBLIC_KEY"


def public_key_path() -> str | None:
    """The public key that the environment requires archives to be signed for, or `None`."""
    return os.environ.get(PUBLIC_KEY_VARIABLE)


def check_signature(content: bytes, signature: bytes | None, key: str | None) -> None:
    """Checks the signature of a manifest if a public key is given; without one, signed and unsigned are the same.

    Args:
        content: the manifest's bytes.
        signature: the signature's bytes, or `None` if the archive has none.
        key: absolute path of the public key (PEM), or `None`.

    Raises:
        ModelError: there is a key, and no signature that its private half made of these bytes; or the key is unusable.
    """
    if key is None:
        return
    public = _load_public_key(key)
    if signature is None:
        raise ModelError(f"{SIGNATURE_FILE}: missing: the archive is not signed, and {key} demands that it is")
    from cryptography.exceptions import InvalidSignature  # needed only where archives are signed

    try:
        public.verify(signature, content)
    except InvalidSignature:
        raise ModelError(
            f"{SIGNATURE_FILE}: does not fit: {MANIFEST_FILE} was changed, or not signed with the private half of {key}"
        ) from None


def _load_public_key(key: str) -> Ed25519PublicKey:
    # A worker's current folder is the archive's own: a relative path would find the key there.
    if not Path(key).is_absolute():
        raise ModelError(f"{PUBLIC_KEY_VARIABLE}: expected the absolute path of a public key, got {key!r}")
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.serialization import load_pem_public_key

        public = load_pem_public_key(Path(key).read_bytes())
    except ImportError as error:
        raise ModelError(f"{PUBLIC_KEY_VARIABLE}: checking it needs the package cryptography: {error}") from error
    except OSError as error:
        raise ModelError(f"{PUBLIC_KEY_VARIABLE}: {key} cannot be read: {error.strerror}") from error
    except Exception as error:  # its parser raises many kinds
        raise ModelError(f"{PUBLIC_KEY_VARIABLE}: {key} holds no public key in PEM form") from error
    if not isinstance(public, Ed25519PublicKey):
        raise ModelError(f"{PUBLIC_KEY_VARIABLE}: {key} is not an ed25519 key")
    return public
