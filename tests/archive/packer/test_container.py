"""Untrusted archives: each that could do harm is refused with a reason, and nothing of it is written."""

import io
import os
import random
import stat
import struct
import zipfile
import zlib
from pathlib import Path

import pytest

from archive.errors import ArchiveError
from archive.packer import container
from archive.packer.container import Container, write_archive

PLAIN = {"a.txt": b"first", "folder/b.bin": bytes(range(256)) * 20}


def refusal(path: Path) -> str:
    """Why an archive is refused, on opening or on reading it; it must not fail in another way."""
    with pytest.raises(ArchiveError) as caught, Container(path) as opened:
        opened.check_contents()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def plain(tmp_path) -> Path:
    """As torch-model-archiver would write it."""
    path = tmp_path / "plain.mar"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in PLAIN.items():
            archive.writestr(name, content)
    return path


@pytest.fixture
def made(tmp_path):
    """`made(name, content, **attributes)`: an archive with an ordinary file and one whose entry is changed."""

    def make(name: str, content: bytes = b"x", method: int = zipfile.ZIP_STORED, **attributes) -> Path:
        path = tmp_path / "hostile.mar"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("handler.py", b"pass")
            info = zipfile.ZipInfo(name)
            info.compress_type = method
            for key, value in attributes.items():
                setattr(info, key, value)
            archive.writestr(info, content)
        return path

    return make


def patch(path: Path, old: bytes, new: bytes, count: int = -1) -> Path:
    """Replaces bytes that the file has."""
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new, count))
    return path


def test_an_ordinary_archive_is_read(plain, tmp_path):
    with Container(plain) as opened:
        assert opened.names == list(PLAIN)
        assert {name: opened.read(name) for name in opened.names} == PLAIN
        (tmp_path / "out").mkdir()
        opened.extract(tmp_path / "out")
    assert (tmp_path / "out" / "folder" / "b.bin").read_bytes() == PLAIN["folder/b.bin"]


@pytest.mark.parametrize(
    "name",
    [
        "../evil.py",
        "a/../../evil.py",
        "/etc/evil",
        "//host/evil",
        "C:evil",
        "c:/evil",
        "..\\evil",
        "a\\b",
        "a//b",
        "./a",
        "a/.",
        "a/..",
        # A sibling folder whose name starts with the archive's: TorchServe's own check lets it pass.
        "../hostile.mar-sibling/evil.py",
    ],
)
def test_a_name_that_leads_out_of_the_folder(made, tmp_path, name):
    assert "would be unpacked outside" in refusal(made(name))
    assert [path.name for path in tmp_path.parent.glob("**/evil*")] == []


@pytest.mark.parametrize("name", ["a\nb", "a\x1bb", "\x7f", "a" * 1001, "\u202eyp.exe", ""])
def test_a_name_that_is_not_allowed(made, name):
    said = refusal(made(name))
    assert "not allowed as a file name" in said or "would be unpacked outside" in said


def test_a_name_with_a_zero_in_it(made):
    path = patch(made("good.pyX.txt"), b"good.pyX.txt", b"good.py\0.txt")
    assert "not allowed as a file name" in refusal(path)


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFSOCK, stat.S_IFDIR])
def test_a_link_or_special_file(made, kind):
    assert refusal(made("link", b"/etc/passwd", external_attr=(kind | 0o777) << 16)) == "link: a link or special file"


def test_two_files_of_one_name(tmp_path):
    path = tmp_path / "twice.mar"
    with zipfile.ZipFile(path, "w") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("handler.py", b"one")
        archive.writestr("handler.py", b"two")
    assert refusal(path) == "handler.py: two files have this name"


def test_two_names_that_differ_in_case(made):
    assert "differs from handler.py only in case" in refusal(made("Handler.PY"))


def test_a_file_that_is_also_a_folder(made):
    assert refusal(made("handler.py/x")) == "handler.py: is both a file and the folder of handler.py/x"


def test_an_encrypted_file(made):
    path = made("secret")
    content = bytearray(path.read_bytes())
    local, central = content.rindex(b"PK\3\4"), content.rindex(b"PK\1\2")
    content[local + 6] |= 1
    content[central + 8] |= 1
    path.write_bytes(content)
    assert refusal(path) == "secret: encrypted"


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_compression_that_torchserve_does_not_know(made, method):
    assert "compressed in a way that TorchServe does not read" in refusal(made("x", b"x" * 100, method))


def test_a_file_written_as_a_stream(tmp_path):
    class Unseekable(io.RawIOBase):
        def __init__(self, path):
            self.file = path.open("wb")

        def writable(self):
            return True

        def write(self, data):
            return self.file.write(data)

        def close(self):
            self.file.close()

    path = tmp_path / "stream.mar"
    with zipfile.ZipFile(Unseekable(path), "w") as archive:
        archive.writestr("a", b"content")
    assert "its size comes after its contents" in refusal(path)


class TestBombs:
    def test_a_file_of_zeros(self, made):
        path = made("zeros", bytes(100 << 20), zipfile.ZIP_DEFLATED)
        assert path.stat().st_size < 1 << 20
        assert refusal(path).endswith(" bytes: a bomb")

    def test_many_small_ones(self, tmp_path):
        path = tmp_path / "many.mar"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for index in range(80):
                archive.writestr(f"{index}", bytes(1 << 20))
        assert refusal(path).endswith(" bytes: a bomb")

    def test_too_many_entries(self, tmp_path):
        path = tmp_path / "many.mar"
        with zipfile.ZipFile(path, "w") as archive:
            for index in range(container.MAX_ENTRIES + 1):
                archive.writestr(f"{index}", b"")
        assert refusal(path) == "has 10,001 entries; more than 10,000 are refused"

    def test_a_size_that_lies(self, made):
        """Python's own reader stops at the claimed size; TorchServe writes everything."""
        path = made("zeros", bytes(5 << 20), zipfile.ZIP_DEFLATED)
        real, claimed = struct.pack("<I", 5 << 20), struct.pack("<I", 10)
        patch(path, real, claimed)
        patch(path, struct.pack("<I", zlib.crc32(bytes(5 << 20))), struct.pack("<I", zlib.crc32(bytes(10))))
        with zipfile.ZipFile(path) as archive:
            assert archive.read("zeros") == bytes(10)
        assert refusal(path) == "zeros: unpacks to more than the 10 bytes it claims"

    def test_entries_that_share_their_contents(self, tmp_path):
        """Many names for the same compressed bytes: each one by itself looks harmless."""
        path = tmp_path / "overlap.mar"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a", bytes(1 << 16))
            info = archive.getinfo("a")
            for index in range(50):
                copy = zipfile.ZipInfo(f"copy{index}")
                for key in ("compress_type", "CRC", "compress_size", "file_size", "header_offset", "flag_bits"):
                    setattr(copy, key, getattr(info, key))
                archive.filelist.append(copy)
                archive.NameToInfo[copy.filename] = copy
        assert refusal(path).endswith(": overlaps another entry")


class TestTwoReaders:
    """Archives from which TorchServe, reading from the start, would unpack something else than Python."""

    def test_data_before_the_first_entry(self, plain):
        plain.write_bytes(b"#!/bin/sh\n" + plain.read_bytes())
        assert "data" in refusal(plain)

    def test_an_entry_before_the_first_one_that_the_directory_knows(self, plain, tmp_path):
        hidden = tmp_path / "hidden.mar"
        with zipfile.ZipFile(hidden, "w") as archive:
            archive.writestr("handler.py", b"evil")
        entry = hidden.read_bytes().partition(b"PK\1\2")[0]
        plain.write_bytes(entry + plain.read_bytes())
        with zipfile.ZipFile(plain) as archive:
            assert archive.namelist() == list(PLAIN)
        assert "data" in refusal(plain)

    def test_an_entry_between_two_others_that_the_directory_leaves_out(self, tmp_path):
        path = tmp_path / "hidden.mar"
        with zipfile.ZipFile(path, "w") as archive:
            for name in ("a", "evil", "b"):
                archive.writestr(name, b"x")
            archive.filelist = [info for info in archive.filelist if info.filename != "evil"]
            del archive.NameToInfo["evil"]
        assert refusal(path) == "b: has stray data before it"

    def test_an_entry_after_the_last_one_that_the_directory_knows(self, tmp_path):
        path = tmp_path / "hidden.mar"
        with zipfile.ZipFile(path, "w") as archive:
            for name in ("a", "evil"):
                archive.writestr(name, b"x")
            archive.filelist.pop()
            del archive.NameToInfo["evil"]
        assert refusal(path) == "has data between its last entry and its directory"

    def test_data_after_the_end(self, plain):
        plain.write_bytes(plain.read_bytes() + b"trailing")
        assert "does not end with its directory" in refusal(plain)

    def test_a_comment(self, plain):
        with zipfile.ZipFile(plain, "a") as archive:
            archive.comment = b"PK\3\4"
        assert "does not end with its directory" in refusal(plain)

    def test_two_archives_in_one_file(self, plain):
        plain.write_bytes(plain.read_bytes() * 2)
        refusal(plain)

    @pytest.mark.parametrize(("field", "size"), [(4, 2), (6, 2), (8, 2), (14, 4), (18, 4), (22, 4), (30, 1)])
    def test_an_entry_that_contradicts_the_directory(self, plain, field, size):
        """Version (harmless), flags, method, checksum, packed size, size, name of the first entry."""
        content = bytearray(plain.read_bytes())
        content[field] ^= 4
        plain.write_bytes(content)
        if field == 4:
            with Container(plain) as opened:
                opened.check_contents()
        else:
            refusal(plain)

    def test_compressed_data_that_continues_after_its_end(self, made):
        """Python reads it; TorchServe takes the rest for the next entry, or stops."""
        deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
        packed = deflater.compress(b"content") + deflater.flush()
        path = made("tail", packed + b"tail")
        content = bytearray(path.read_bytes())
        for start, method, checksum in ((content.rindex(b"PK\3\4"), 8, 14), (content.rindex(b"PK\1\2"), 10, 16)):
            struct.pack_into("<H", content, start + method, 8)
            struct.pack_into("<I", content, start + checksum, zlib.crc32(b"content"))
            struct.pack_into("<I", content, start + checksum + 8, len(b"content"))
        path.write_bytes(content)
        with zipfile.ZipFile(path) as archive:
            assert archive.read("tail") == b"content"
        assert "its compressed data does not end where its entry does" in refusal(path)


@pytest.mark.parametrize("content", [b"", b"PK", b"x" * 1000, b"PK\5\6" + bytes(18) + b"x", b"PK\5\6" + b"\xff" * 16])
def test_something_that_is_not_an_archive(tmp_path, content):
    path = tmp_path / "no.mar"
    path.write_bytes(content)
    assert refusal(path).startswith(("not a readable archive", "part of a split archive"))


def test_something_that_is_not_a_file(tmp_path):
    assert refusal(tmp_path / "gone.mar") == "does not exist"
    assert refusal(tmp_path) == "not a file"
    os.mkfifo(tmp_path / "pipe.mar")
    assert refusal(tmp_path / "pipe.mar") == "not a file"


def test_any_damage_is_an_error_or_an_answer(plain):
    """Whatever an archive contains, it is refused with an ArchiveError or read as what it claims to be."""
    content = plain.read_bytes()
    generator = random.Random(3)
    for _ in range(3000):
        damaged = bytearray(content)
        for _ in range(generator.randrange(1, 5)):
            damaged[generator.randrange(len(damaged))] = generator.randrange(256)
        plain.write_bytes(damaged[: generator.choice([len(damaged), generator.randrange(len(damaged))])])
        try:
            with Container(plain) as opened:
                opened.check_contents()
        except ArchiveError:
            pass


def entry(name: str) -> zipfile.ZipInfo:
    """The entry that the packer writes for a file."""
    info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    info.create_system = 3
    info.external_attr = 0o100644 << 16
    return info


class TestCanonical:
    def test_only_names_and_contents_count(self, tmp_path):
        one, two = tmp_path / "1.mar", tmp_path / "2.mar"
        (tmp_path / "b").write_bytes(PLAIN["folder/b.bin"])
        write_archive(one, PLAIN)
        os.utime(tmp_path / "b", (0, 0))
        (tmp_path / "b").chmod(0o600)
        write_archive(two, {"folder/b.bin": tmp_path / "b", "a.txt": PLAIN["a.txt"]})
        assert one.read_bytes() == two.read_bytes()
        with Container(one) as opened:
            opened.check_canonical()
            opened.check_contents()

    def test_an_empty_file_is_stored_too(self, tmp_path):
        write_archive(tmp_path / "x.mar", {"handlers/__init__.py": b""})
        with Container(tmp_path / "x.mar") as opened:
            opened.check_canonical()
            assert opened.read("handlers/__init__.py") == b""

    @pytest.mark.parametrize("name", [".hidden", "a b", "é.pt", "a:b", "-x", "../x", "a/", "", "a//b", "con\n"])
    def test_a_name_that_depends_on_the_system_is_not_written(self, tmp_path, name):
        with pytest.raises(ArchiveError, match="rename it"):
            write_archive(tmp_path / "x.mar", {name: b""})

    def test_any_other_form_is_refused(self, tmp_path, plain):
        def refused(path: Path) -> bool:
            with Container(path) as opened, pytest.raises(ArchiveError, match="not stored as the packer"):
                opened.check_canonical()
            return True

        assert refused(plain)  # compressed, and with a time
        path = tmp_path / "x.mar"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(entry("a"), b"x")
        with Container(path) as opened:
            opened.check_canonical()
        for key, value in {
            "date_time": (1980, 1, 1, 0, 0, 2),
            "external_attr": 0o100600 << 16,
            "create_system": 0,
            "internal_attr": 1,
            "comment": b"c",
            "extra": struct.pack("<HH", 0xCAFE, 0),
        }.items():
            with zipfile.ZipFile(path, "w") as archive:
                info = entry("a")
                setattr(info, key, value)
                archive.writestr(info, b"x")
            assert refused(path), key
        with zipfile.ZipFile(path, "w") as archive:
            for name in ("b", "a"):
                archive.writestr(entry(name), b"x")
        assert refused(path)

    def test_large_files_have_wider_fields(self, tmp_path, monkeypatch):
        """With the library's limit lowered from 2 GiB; apart from that, the layout is that of a large archive."""
        monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 1000)
        files = {"a": b"small", "b": bytes(960), "c": bytes(5000), "d": b"far"}
        write_archive(tmp_path / "x.mar", files)
        with Container(tmp_path / "x.mar") as opened:
            opened.check_canonical()
            assert {name: opened.read(name) for name in opened.names} == files

    @pytest.mark.parametrize("limit", [zipfile.ZIP64_LIMIT, 10])
    def test_a_flipped_bit_anywhere_is_noticed(self, tmp_path, monkeypatch, limit):
        monkeypatch.setattr(zipfile, "ZIP64_LIMIT", limit)
        path = tmp_path / "x.mar"
        write_archive(path, {"a": b"some content", "b/c": b"more"})
        content = path.read_bytes()
        unnoticed = []
        for index in range(len(content)):
            for bit in range(8):
                damaged = bytearray(content)
                damaged[index] ^= 1 << bit
                path.write_bytes(damaged)
                try:
                    with Container(path) as opened:
                        assert sorted(opened.names) == ["a", "b/c"]
                        opened.check_contents()
                        opened.check_canonical()
                except (ArchiveError, AssertionError):  # a changed name is for the manifest to notice
                    continue
                unnoticed.append((index, bit))
        assert unnoticed == []
