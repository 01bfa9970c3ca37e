"""The ZIP file of a `.mar`: written in one canonical form, and read without trusting it.

TorchServe reads an archive from its beginning, entry by entry; Python reads the directory at its end. An archive is
accepted only if both see the same, and a name or a size in it is used only after it was checked. Nothing here executes
or imports anything in an archive, and only `extract` writes.
"""

from __future__ import annotations

import errno
import io
import os
import re
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO

from archive.errors import ArchiveError

if TYPE_CHECKING:
    from typing_extensions import Buffer

CHUNK = 1 << 20
# More than any model needs; they protect the machine that opens an archive.
MAX_ENTRIES = 10_000
MAX_BYTES = 64 << 30
MAX_NAME = 1000
# The size an archive may unpack to, as a multiple of its own size; a small one is always fine.
MAX_RATIO, UNSUSPICIOUS_BYTES = 100, 64 << 20
# Of a file that is read whole: manifests and configuration.
MAX_DOCUMENT = 16 << 20

_LOCAL = struct.Struct("<4s5H3I2H")
_END = struct.Struct("<4s4H2IH")
_END_64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR_64 = struct.Struct("<4sIQI")
_ALL_32, _ALL_16 = 0xFFFFFFFF, 0xFFFF
# They say how well an entry was compressed, and that its name is UTF-8.
_HARMLESS_FLAGS = 0x0006 | 0x0800
_DRIVE = re.compile(r"[A-Za-z]:")
# Names that mean the same to every file system.
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+=,@~-]*(/[A-Za-z0-9_][A-Za-z0-9_.+=,@~-]*)*")

_EPOCH = (1980, 1, 1, 0, 0, 0)
_FILE_MODE = (stat.S_IFREG | 0o644) << 16
_UNIX = 3


def write_archive(path: Path, files: Mapping[str, Path | bytes]) -> None:
    """Writes files into a ZIP file whose every byte follows from their names and contents.

    They are sorted by name, without times or owners, all with the same mode, and stored instead of compressed, since
    different versions of a compressor give different bytes, and weights hardly shrink.

    Raises:
        ArchiveError: a name does not mean the same to every file system.
    """
    with path.open("xb") as file:
        _write(file, {name: _size_and_chunks(source) for name, source in files.items()})


def _size_and_chunks(source: Path | bytes) -> tuple[int, Iterable[bytes]]:
    if isinstance(source, bytes):
        return len(source), [source]
    return source.stat().st_size, file_chunks(source)


def file_chunks(path: Path) -> Iterator[bytes]:
    """The contents of a file in parts."""
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk


def _write(file: BinaryIO | _Comparison, files: Mapping[str, tuple[int, Iterable[bytes]]]) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            if not is_plain_name(name):
                raise ArchiveError(
                    f"{name!r}: rename it: letters, digits and _.+=,@~- only, a letter, digit or _ first"
                )
            info = zipfile.ZipInfo(name, _EPOCH)
            info.create_system = _UNIX
            info.external_attr = _FILE_MODE
            info.file_size, chunks = files[name]  # decides the width of the header's fields
            with archive.open(info, "w") as target:
                for chunk in chunks:
                    target.write(chunk)


def check_growth(packed: int, unpacked: int) -> None:
    """Raises `ArchiveError` for a ZIP file that unpacks to so much more than its size that it must be an attack."""
    if unpacked > MAX_BYTES or unpacked > max(UNSUSPICIOUS_BYTES, MAX_RATIO * packed):
        raise ArchiveError(f"unpacks from {packed:,} to {unpacked:,} bytes: a bomb")


def is_plain_name(name: str) -> bool:
    """Whether the packer would give this name to a file of an archive."""
    return len(name) <= MAX_NAME and _PLAIN_NAME.fullmatch(name) is not None


class _Comparison(io.RawIOBase):
    """A file to write to that compares what is written with another file instead of storing it."""

    def __init__(self, original: BinaryIO) -> None:
        self._original = original
        self._position = 0
        self._end = 0
        # By position and length; a header is written twice, first without the checksum.
        self._different: set[tuple[int, int]] = set()

    def write(self, data: Buffer) -> int:
        data = bytes(data)
        self._original.seek(self._position)
        place = self._position, len(data)
        if self._original.read(len(data)) == data:
            self._different.discard(place)
        else:
            self._different.add(place)
        self._position += len(data)
        self._end = max(self._end, self._position)
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._position = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._end}[whence] + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def seekable(self) -> bool:
        return True

    def first_difference(self) -> int | None:
        """The position of the first write that differs, or where the shorter file ends; `None` if they are equal."""
        size = os.fstat(self._original.fileno()).st_size
        ends = [] if size == self._end else [min(size, self._end)]
        return min([position for position, _ in self._different] + ends, default=None)


class Container:
    """An archive that was opened for reading and is safe to unpack; contents are checked while they are read.

    Attributes:
        path: the archive.
        names: its files, in the order of its directory.

    Raises:
        ArchiveError: it is not a ZIP file, could do harm, or could be read in two ways.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = _open_file(path)
        try:
            self._directory_start = self._check_end()
            self._entries = self._read_directory()
            check_growth(os.fstat(self._file.fileno()).st_size, self.total())
            self._data_starts = self._check_layout()
        except ArchiveError:
            self._file.close()
            raise
        except (
            zipfile.BadZipFile,
            NotImplementedError,
            ValueError,  # such as a name that is not Unicode
            OverflowError,
            EOFError,
            OSError,
            struct.error,
            AttributeError,
        ) as error:
            self._file.close()
            raise ArchiveError(f"not a readable archive ({error})") from error
        self.names = [name for name in self._entries if not name.endswith("/")]

    def __enter__(self) -> Container:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()

    def size(self, name: str) -> int:
        """Bytes of a file, unpacked."""
        return self._entries[name].file_size

    def total(self) -> int:
        """Bytes of all files, unpacked."""
        return sum(info.file_size for info in self._entries.values())

    def read(self, name: str, limit: int = MAX_DOCUMENT) -> bytes:
        """A whole file.

        Raises:
            ArchiveError: it is damaged, or larger than `limit`.
        """
        if self.size(name) > limit:
            raise ArchiveError(f"{name}: has {self.size(name):,} bytes, more than {limit:,}")
        return b"".join(self.chunks(name))

    def chunks(self, name: str) -> Iterator[bytes]:
        """The contents of a file in parts.

        Raises:
            ArchiveError: it does not match its size or its checksum, as TorchServe would find too.
        """
        info = self._entries[name]
        checksum, size = 0, 0
        for chunk in self._unpacked(info):
            checksum = zlib.crc32(chunk, checksum)
            size += len(chunk)
            if size > info.file_size:
                raise ArchiveError(f"{name}: unpacks to more than the {info.file_size:,} bytes it claims")
            yield chunk
        if size != info.file_size or checksum != info.CRC:
            raise ArchiveError(f"damaged: {name} does not match its checksum")

    def check_contents(self) -> None:
        """Raises `ArchiveError` if any file is damaged."""
        for name in self.names:
            for _ in self.chunks(name):
                pass

    def check_canonical(self) -> None:
        """Raises `ArchiveError` unless this is, byte for byte, what `write_archive` makes of the same files."""
        comparison = _Comparison(self._file)
        _write(comparison, {name: (self.size(name), self.chunks(name)) for name in self.names})
        different = comparison.first_difference()
        if different is not None:
            raise ArchiveError(
                f"not stored as the packer stores files; the first difference is after byte {different:,}"
            )

    def extract(self, folder: Path) -> None:
        """Unpacks everything into an empty folder.

        Raises:
            ArchiveError: a file is damaged, or there is not enough space.
        """
        if shutil.disk_usage(folder).free < self.total():
            raise ArchiveError(f"unpacks to {self.total():,} bytes; {folder} has less free space than that")
        for name in self.names:
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("xb") as file:
                for chunk in self.chunks(name):
                    file.write(chunk)

    # -- checks --------------------------------------------------------------------------------------------------------

    def _at(self, offset: int, size: int) -> bytes:
        self._file.seek(offset)
        return self._file.read(size)

    def _check_end(self) -> int:
        """The start of the directory, whose size is checked first: a forged one could fill the memory of its reader."""
        size = os.fstat(self._file.fileno()).st_size
        if size < _END.size:
            raise ArchiveError("not a readable archive (too short)")
        end = size - _END.size
        mark, disk, first_disk, count_here, count, length, start, comment = _END.unpack(self._at(end, _END.size))
        if mark != b"PK\5\6" or comment:
            raise ArchiveError("not a readable archive (it does not end with its directory)")
        locator = self._at(max(0, end - _LOCATOR_64.size), _LOCATOR_64.size)
        if locator.startswith(b"PK\6\7"):
            # A large archive repeats all that in wider fields.
            end -= _LOCATOR_64.size + _END_64.size
            fields = _END_64.unpack(self._at(max(0, end), _END_64.size))
            if _LOCATOR_64.unpack(locator)[1:] != (0, end, 1) or fields[:2] != (b"PK\6\6", _END_64.size - 12):
                raise ArchiveError("not a readable archive (its end lacks the fields of a large archive)")
            narrow, wide = (disk, first_disk, count_here, count, length, start), fields[4:]
            limits = (_ALL_16,) * 4 + (_ALL_32,) * 2
            if any(few not in (many, limit) for few, many, limit in zip(narrow, wide, limits, strict=True)):
                raise ArchiveError("not a readable archive (its end contradicts itself)")
            disk, first_disk, count_here, count, length, start = wide
        if disk or first_disk or count != count_here:
            raise ArchiveError("part of a split archive")
        if count > MAX_ENTRIES or length > MAX_ENTRIES * (MAX_NAME + 200):
            raise ArchiveError(f"has {count:,} entries; more than {MAX_ENTRIES:,} are refused")
        if start + length != end:
            raise ArchiveError("has data outside its entries (before, after or between them)")
        self._count = count
        return start

    def _read_directory(self) -> dict[str, zipfile.ZipInfo]:
        self._file.seek(0)
        with zipfile.ZipFile(self._file) as archive:
            entries = archive.infolist()
        if len(entries) != self._count:
            raise ArchiveError(f"its directory lists {len(entries):,} entries but claims {self._count:,}")
        found: dict[str, zipfile.ZipInfo] = {}
        spelled: dict[str, str] = {}
        for info in entries:
            name = info.orig_filename
            _check_name(name)
            _check_entry(name, info)
            other = spelled.setdefault(name.rstrip("/").casefold(), name)
            if name in found:
                raise ArchiveError(f"{name}: two files have this name")
            if other is not name:
                raise ArchiveError(f"{name}: differs from {other} only in case; on some systems they are one file")
            found[name] = info
        for name in found:
            for parent in Path(name).parents:
                if str(parent) in found:
                    raise ArchiveError(f"{parent}: is both a file and the folder of {name}")
        return found

    def _check_layout(self) -> dict[str, int]:
        """Walks the entries as TorchServe does, from the first byte on, and requires that they match the directory.

        Returns:
            The start of the contents of each.
        """
        starts: dict[str, int] = {}
        offset = 0
        for name, info in sorted(self._entries.items(), key=lambda item: item[1].header_offset):
            if info.header_offset != offset:
                overlaps = info.header_offset < offset
                raise ArchiveError(f"{name}: {'overlaps another entry' if overlaps else 'has stray data before it'}")
            local = self._at(offset, _LOCAL.size)
            mark, _, flags, method, _, _, checksum, packed, size, name_bytes, extra_bytes = _LOCAL.unpack(local)
            if mark != b"PK\3\4":
                raise ArchiveError(f"{name}: the directory points to something that is not an entry")
            encoding = "utf-8" if flags & 0x800 else "ascii"
            local_name = self._at(offset + _LOCAL.size, name_bytes).decode(encoding)
            if _ALL_32 in (packed, size):
                extra = self._at(offset + _LOCAL.size + name_bytes, extra_bytes)
                size, packed = _sizes_64(extra)
            entry = (local_name, flags, method, checksum, packed, size)
            if entry != (name, info.flag_bits, info.compress_type, info.CRC, info.compress_size, info.file_size):
                raise ArchiveError(f"{name}: the entry and the directory contradict each other")
            starts[name] = offset + _LOCAL.size + name_bytes + extra_bytes
            offset = starts[name] + info.compress_size
        if offset != self._directory_start:
            raise ArchiveError("has data between its last entry and its directory")
        return starts

    def _unpacked(self, info: zipfile.ZipInfo) -> Iterator[bytes]:
        packed = self._packed(info)
        if info.compress_type == zipfile.ZIP_STORED:
            yield from packed
            return
        # Python's reader stops at the claimed size, TorchServe's where the compressed data ends.
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            for chunk in packed:
                left = chunk
                while left or not inflater.eof:
                    part = inflater.decompress(left, CHUNK)
                    left = inflater.unconsumed_tail
                    if part:
                        yield part
                    elif not left:
                        break
                if inflater.unused_data:
                    break
        except zlib.error as error:
            raise ArchiveError(f"damaged: {info.orig_filename} cannot be decompressed ({error})") from error
        if not inflater.eof or inflater.unused_data or next(packed, b""):
            raise ArchiveError(f"damaged: {info.orig_filename}: its compressed data does not end where its entry does")

    def _packed(self, info: zipfile.ZipInfo) -> Iterator[bytes]:
        offset, left = self._data_starts[info.orig_filename], info.compress_size
        while left:
            chunk = self._at(offset, min(left, CHUNK))
            if not chunk:
                return
            offset, left = offset + len(chunk), left - len(chunk)
            yield chunk


def _open_file(path: Path) -> BinaryIO:
    # Anything but a plain file could block, or never end. The check is made on the opened file, which cannot change.
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        raise ArchiveError("does not exist") from None
    except OSError as error:
        reason = "not a file" if error.errno == errno.ENXIO else f"cannot be read: {error.strerror}"
        raise ArchiveError(reason) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ArchiveError("not a file")
    return os.fdopen(descriptor, "rb")


def _check_name(name: str) -> None:
    parts = name.removesuffix("/").split("/")
    if not name.isprintable() or len(name) > MAX_NAME:
        raise ArchiveError(f"{name[:MAX_NAME]!r}: not allowed as a file name")
    if name.startswith("/") or _DRIVE.match(name) or "\\" in name or any(part in ("", ".", "..") for part in parts):
        raise ArchiveError(f"{name}: would be unpacked outside the archive's folder, on some systems at least")


def _check_entry(name: str, info: zipfile.ZipInfo) -> None:
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFDIR if name.endswith("/") else stat.S_IFREG):
        raise ArchiveError(f"{name}: a link or special file")
    if info.flag_bits & 0x2041:
        raise ArchiveError(f"{name}: encrypted")
    if info.flag_bits & 0x0008:
        raise ArchiveError(f"{name}: its size comes after its contents; readers disagree about where it ends")
    if info.flag_bits & ~_HARMLESS_FLAGS or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ArchiveError(f"{name}: compressed in a way that TorchServe does not read")
    # The same name in another encoding would be another file to TorchServe.
    if not info.flag_bits & 0x0800 and not name.isascii():
        raise ArchiveError(f"{name}: the encoding of its name is unknown")
    if name.endswith("/") and info.file_size:
        raise ArchiveError(f"{name}: a folder that has contents")
    if info.compress_type == zipfile.ZIP_STORED and info.compress_size != info.file_size:
        raise ArchiveError(f"{name}: its size is not the size of its contents")


def _sizes_64(extra: bytes) -> tuple[int, int]:
    """The unpacked and packed size of an entry whose header has them in wider fields."""
    kind, length, size, packed = struct.unpack_from("<2H2Q", extra)
    if kind != 1 or length < 16:
        raise ArchiveError("not a readable archive (an entry lacks the fields of a large file)")
    return size, packed
