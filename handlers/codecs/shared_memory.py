"""Tensors in memory that a client on the same host shares: the Open Inference Protocol's system shared memory.

The protocol has a server register regions under names of its own; TorchServe has no such call, so a region is named by
its POSIX key: the region `opserve-a1` is what `shm_open("/opserve-a1")` opens. Only keys that begin with the prefix of
the model's configuration are, and without a prefix none.

What is here belongs to somebody else, who may change or shorten it at any time. So bytes are copied by read and write
calls: a page of a map whose file was shortened ends the process with SIGBUS, and an index that was checked must not
change before it is followed.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy

from handlers.codecs.npy import MAX_UNPACKED_BYTES
from handlers.errors import RequestError

# Where Linux keeps them.
FOLDER = "/dev/shm"

REGION, SIZE, OFFSET = "shared_memory_region", "shared_memory_byte_size", "shared_memory_offset"

# No path but a name; 255 bytes are the longest one.
_KEY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,254}")


class Region(NamedTuple):
    """A piece of shared memory that a request may name: a key under the prefix, and bytes of it."""

    key: str
    offset: int
    size: int

    def describe(self) -> dict[str, Any]:
        """As the parameters of a tensor."""
        return {REGION: self.key, OFFSET: self.offset, SIZE: self.size}


class SharedMemory(NamedTuple):
    """What a model lets its requests name: keys that begin with `prefix` (`None`: none), and how much of them one
    request may have read.
    """

    prefix: str | None = None
    max_bytes: int = MAX_UNPACKED_BYTES

    def region(self, parameters: Mapping[str, Any], field: str) -> Region | None:
        """The region that the parameters of a tensor name, if they name one.

        Raises:
            RequestError: shared memory is off, the key is not one under the prefix, or a number is none.
        """
        if REGION not in parameters:
            return None
        key, offset, size = parameters[REGION], parameters.get(OFFSET, 0), parameters.get(SIZE)
        if self.prefix is None:
            raise RequestError(
                f"'{field}' is in shared memory, which this model does not take: its configuration sets no "
                "shared_memory prefix",
                field=field,
            )
        if not isinstance(key, str) or not is_key(key) or not key.startswith(self.prefix):
            raise RequestError(f"the {REGION} of '{field}' must be a key that begins with '{self.prefix}'", field=field)
        if not (type(offset) is int and type(size) is int and 0 <= offset < 2**62 and 0 <= size < 2**62):
            raise RequestError(f"'{field}' needs a {SIZE} and a {OFFSET} of 0 or more", field=field)
        return Region(key, offset, size)


OFF = SharedMemory()


def is_key(text: str) -> bool:
    """Whether `text` can be the key of a region, or the beginning of one."""
    return _KEY.fullmatch(text) is not None


def read(region: Region, field: str) -> memoryview:
    """A copy of a region's bytes, aligned and writable.

    Raises:
        RequestError: there is no such region, it is a link or no plain memory, or it ends before these bytes do.
    """
    with _opened(region, os.O_RDONLY, field) as file:
        view = memoryview(numpy.empty(region.size, numpy.uint8))
        done = 0
        while done < region.size:
            count = os.preadv(file, [view[done:]], region.offset + done)
            if count == 0:  # shortened since it was looked at
                raise _too_short(region, field)
            done += count
        return view


def write(region: Region, array: numpy.ndarray, field: str) -> Region:
    """Writes an array in C order to the beginning of a region; what of it was written to.

    Raises:
        RequestError: as for `read`, or the array has more bytes than the region.
    """
    if array.nbytes > region.size:
        raise RequestError(
            f"'{field}' takes {array.nbytes} bytes, and its {SIZE} is {region.size}; give it as many", field=field
        )
    with _opened(region, os.O_RDWR, field) as file:
        view, done = memoryview(array.reshape(-1).view(numpy.uint8)), 0
        while done < array.nbytes:
            done += os.pwrite(file, view[done:], region.offset + done)
    return region._replace(size=array.nbytes)


@contextlib.contextmanager
def _opened(region: Region, mode: int, field: str) -> Iterator[int]:
    """A file descriptor of a region that has all its bytes now."""
    file = None
    try:
        # Without O_NONBLOCK a pipe of that name would hold the worker up.
        flags = mode | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        file = os.open(f"{FOLDER}/{region.key}", flags)
        found = os.fstat(file)
        # A second name may be one outside the prefix.
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
            raise RequestError(f"the shared memory '{region.key}' of '{field}' is a link or no memory", field=field)
        if found.st_size < region.offset + region.size:
            raise _too_short(region, field)
        yield file
    except OSError as error:
        message = f"the shared memory '{region.key}' of '{field}' cannot be used: {error.strerror}"
        raise RequestError(message, field=field) from error
    finally:
        if file is not None:
            os.close(file)


def _too_short(region: Region, field: str) -> RequestError:
    end = region.offset + region.size
    return RequestError(f"the shared memory '{region.key}' of '{field}' ends before byte {end}", field=field)
