"""Signed archives: a worker that was given a public key accepts no others."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from archive.errors import ArchiveError, OpserveError
from archive.packer.contents import ArchiveContents
from archive.packer.keys import load_private_key, make_keys
from archive.packer.pack import pack, unpack
from archive.packer.verify import verify
from archive.repository import ROOT
from handlers.errors import ModelError
from handlers.integrity.check import check_archive
from handlers.integrity.manifest import MANIFEST_FILE
from handlers.integrity.signing import PUBLIC_KEY_VARIABLE, SIGNATURE_FILE, check_signature
from scripts.torchserve.archives import read_archive
from tests.support import archives
from tests.support.packed import change_requirements, files_in


@pytest.fixture(scope="module")
def keys(tmp_path_factory) -> tuple[Path, Path]:
    """A private and its public key."""
    private = tmp_path_factory.mktemp("keys") / "key.pem"
    return private, make_keys(private)


@pytest.fixture(scope="module")
def signed(external, keys, tmp_path_factory) -> Path:
    contents = ArchiveContents.from_files("mine", external.scripted, [external.library], external.config)
    path, _ = pack(contents, tmp_path_factory.mktemp("signed"), load_private_key(keys[0]))
    return path


@pytest.fixture
def folder(signed, tmp_path) -> Path:
    return unpack(signed, tmp_path / "signed")


@pytest.fixture
def demanded(keys, monkeypatch) -> Path:
    """The environment demands signatures."""
    monkeypatch.setenv(PUBLIC_KEY_VARIABLE, str(keys[1]))
    return keys[1]


def refusal(folder: Path) -> str:
    with pytest.raises(ModelError) as caught:
        check_archive(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_signed_archive_is_accepted_with_and_without_a_key(folder, signed, demanded, monkeypatch):
    check_archive(folder)
    verify(signed, str(demanded), run=False)
    assert read_archive(signed).model == "mine"
    monkeypatch.delenv(PUBLIC_KEY_VARIABLE)
    check_archive(folder)


def test_the_signature_is_all_that_signing_adds(packed, signed):
    with_signature = files_in(signed)
    assert len(with_signature.pop(SIGNATURE_FILE)) == 64
    assert with_signature == files_in(packed)


def test_an_unsigned_archive_is_refused(unpacked, packed, demanded):
    assert refusal(unpacked) == f"opserve.sig: missing: the archive is not signed, and {demanded} demands that it is"
    with pytest.raises(ArchiveError, match=r"^mine\.mar: opserve\.sig: missing"):
        verify(packed, str(demanded), run=False)
    with pytest.raises(OpserveError, match=r"^mine\.mar: opserve\.sig: missing"):
        read_archive(packed)


def test_the_command_demands_what_the_environment_does(packed, demanded):
    command = [sys.executable, "-m", "archive.verify", "--no-run", str(packed)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: mine.mar: opserve.sig: missing")


def test_packing_does_not_require_a_signature_where_servers_demand_one(external, demanded, tmp_path):
    contents = ArchiveContents.from_files("mine", external.scripted, [external.library], external.config)
    assert SIGNATURE_FILE not in files_in(pack(contents, tmp_path)[0])


def test_an_archive_of_another_packer_is_refused(demanded, tmp_path):
    with pytest.raises(OpserveError, match=r"^echo\.mar: opserve\.sig: missing"):
        read_archive(archives.echo(tmp_path))


def test_an_archive_signed_by_someone_else_is_refused(folder, tmp_path, monkeypatch):
    public = make_keys(tmp_path / "other.pem")
    monkeypatch.setenv(PUBLIC_KEY_VARIABLE, str(public))
    assert refusal(folder).startswith("opserve.sig: does not fit: ")


def test_a_changed_but_valid_manifest_is_refused(folder, demanded):
    change_requirements(folder, symbols={})
    assert refusal(folder).startswith("opserve.sig: does not fit: opserve.json was changed, or not signed with ")


@pytest.mark.parametrize("signature", [b"", b"x" * 64, b"x" * 1000])
def test_a_changed_signature_is_refused(folder, demanded, signature):
    (folder / SIGNATURE_FILE).write_bytes(signature)
    assert refusal(folder).startswith("opserve.sig: does not fit: ")


def test_any_changed_file_is_refused(folder, demanded):
    for name in ("handlers/model.py", "MAR-INF/MANIFEST.json", "libmine.so"):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content + b" ")
        assert refusal(folder).startswith(f"{name}: damaged or changed")
        (folder / name).write_bytes(content)


@pytest.mark.parametrize("key", ["", "key.pub.pem", "/nowhere/key.pub.pem", "/dev/null", "/"])
def test_a_key_that_cannot_be_used_refuses_everything(folder, monkeypatch, key):
    """An empty setting too: a typing error must not switch the check off."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv(PUBLIC_KEY_VARIABLE, key)
    assert refusal(folder).startswith(f"{PUBLIC_KEY_VARIABLE}: ")


def test_a_key_is_not_looked_for_in_the_current_folder(folder, keys, monkeypatch):
    """Which for a worker is the archive's own."""
    monkeypatch.chdir(keys[1].parent)
    monkeypatch.setenv(PUBLIC_KEY_VARIABLE, keys[1].name)
    assert refusal(folder) == "OPSERVE_PUBLIC_KEY: expected the absolute path of a public key, got 'key.pub.pem'"


def test_a_private_key_is_no_public_one(folder, keys, monkeypatch):
    monkeypatch.setenv(PUBLIC_KEY_VARIABLE, str(keys[0]))
    assert refusal(folder) == f"{PUBLIC_KEY_VARIABLE}: {keys[0]} holds no public key in PEM form"


def test_openssl_makes_the_same_keys_and_checks_the_same_signatures(folder, keys, tmp_path, demanded):
    def openssl(*arguments: object) -> str:
        command = ["openssl", *map(str, arguments)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    manifest, signature = folder / MANIFEST_FILE, folder / SIGNATURE_FILE
    verified = openssl(
        *("pkeyutl -verify -pubin -rawin -inkey".split()), demanded, "-in", manifest, "-sigfile", signature
    )
    assert "Signature Verified Successfully" in verified
    openssl("genpkey", "-algorithm", "ed25519", "-out", tmp_path / "o.pem")
    openssl("pkey", "-in", tmp_path / "o.pem", "-pubout", "-out", tmp_path / "o.pub.pem")
    content = manifest.read_bytes()
    check_signature(content, load_private_key(tmp_path / "o.pem").sign(content), str(tmp_path / "o.pub.pem"))


class TestKeys:
    def test_the_private_one_is_for_its_user_alone_and_is_never_replaced(self, tmp_path):
        key = tmp_path / "key.pem"
        done = subprocess.run(
            [sys.executable, "-m", "archive.keys", str(key)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        assert f"OPSERVE_PUBLIC_KEY={tmp_path / 'key.pub.pem'}" in done.stdout
        assert key.stat().st_mode & 0o777 == 0o600
        content = key.read_bytes()
        with pytest.raises(ArchiveError, match=r"key\.pem exists"):
            make_keys(key)
        key.unlink()
        with pytest.raises(ArchiveError, match=r"key\.pub\.pem exists"):
            make_keys(key)
        assert not key.exists()
        assert b"PRIVATE" in content

    def test_what_cannot_sign_is_named(self, tmp_path):
        key = tmp_path / "key.pem"
        with pytest.raises(ArchiveError, match="cannot be read: No such file"):
            load_private_key(key)
        key.write_bytes(b"junk")
        with pytest.raises(ArchiveError, match="not a private key in PEM form"):
            load_private_key(key)
        rsa = generate_private_key(public_exponent=65537, key_size=2048)
        key.write_bytes(rsa.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        with pytest.raises(ArchiveError, match="not an ed25519 key"):
            load_private_key(key)
        locked = Ed25519PrivateKey.generate()
        key.write_bytes(locked.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")))
        with pytest.raises(ArchiveError, match="is protected by a password"):
            load_private_key(key)

    def test_the_packer_refuses_before_it_packs(self, external, tmp_path):
        command = [sys.executable, "-m", "archive.pack", "--artifact", external.scripted, "--name", "mine"]
        command += ["--config", external.config, "--ops", external.library, "--model-store", tmp_path / "store"]
        done = subprocess.run(
            [*map(str, command), "--sign-key", str(tmp_path / "no.pem")],
            cwd=ROOT,
            env=os.environ,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1
        assert done.stderr == f"error: SIGN_KEY {tmp_path}/no.pem: cannot be read: No such file or directory\n"
        assert not (tmp_path / "store").exists()
