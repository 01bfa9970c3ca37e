"""Tensors in memory that a client on the same host shares: the Open Inference Protocol's system shared memory.

In the protocol a client registers regions under names that it chooses; TorchServe has no such call, so a region is
named by its POSIX key: the region `opserve-a1` is what `shm_open("/opserve-a1")` opens. Only keys that begin with the
prefix in the model's configuration are opened, and without a prefix none.

The client may change or shorten a region at any time, so bytes are copied by read and write calls: touching a page of
a mapping whose file was shortened ends the process with SIGBUS, and an index that was checked must not change before it
is followed.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy

from handlers.codecs.limits import MAX_UNPACKED_BYTES, is_shared_memory_key
from handlers.errors import RequestError

FOLDER = "/dev/shm"  # where Linux keeps the regions

REGION, SIZE, OFFSET = "shared_memory_region", "shared_memory_byte_size", "shared_memory_offset"


class Region(NamedTuple):
    """Some bytes of the shared memory that a request names."""

    key: str
    offset: int
    size: int

    def describe(self) -> dict[str, Any]:
        """The parameters of a tensor that is there."""
        return {REGION: self.key, OFFSET: self.offset, SIZE: self.size}


class SharedMemory(NamedTuple):
    """The shared memory that the requests of a model may name.

    Attributes:
        prefix: what the keys begin with; with `None` there are none.
        max_bytes: how much of it is read for one request.
    """

    prefix: str | None = None
    max_bytes: int = MAX_UNPACKED_BYTES

    def find_region(self, parameters: Mapping[str, Any], field: str) -> Region | None:
        """The region that the parameters of the tensor `field` name, if they name one.

        Raises:
            RequestError: shared memory is off, the key does not begin with the prefix, or a number is not one.
        """
        if REGION not in parameters:
            return None
        key, offset, size = parameters[REGION], parameters.get(OFFSET, 0), parameters.get(SIZE)
        if self.prefix is None:
            raise RequestError(
                f"'{field}' is in shared memory, which this model does not accept: its configuration sets no "
                "shared_memory prefix",
                field=field,
            )
        if not isinstance(key, str) or not is_shared_memory_key(key) or not key.startswith(self.prefix):
            raise RequestError(f"the {REGION} of '{field}' must be a key that begins with '{self.prefix}'", field=field)
        if not (type(offset) is int and type(size) is int and 0 <= offset < 2**62 and 0 <= size < 2**62):
            raise RequestError(f"'{field}' needs a {SIZE} and a {OFFSET} of 0 or more", field=field)
        return Region(key, offset, size)


NO_SHARED_MEMORY = SharedMemory()


def read(region: Region, field: str) -> memoryview:
    """A copy of a region's bytes, aligned and writable.

    Raises:
        RequestError: there is no such region, it is a link or not memory, or it ends before these bytes do.
    """
    with _open(region, os.O_RDONLY, field) as file:
        view = numpy.empty(region.size, numpy.uint8).data
        done = 0
        while done < region.size:
            count = os.preadv(file, [view[done:]], region.offset + done)
            if count == 0:  # shortened since it was checked
                raise _too_short(region, field)
            done += count
        return view


def write(region: Region, array: numpy.ndarray, field: str) -> Region:
    """Writes an array in C order to the beginning of a region, and returns the part that it took.

    Raises:
        RequestError: as for `read`, or the array is larger than the region.
    """
    if array.nbytes > region.size:
        raise RequestError(f"'{field}' takes {array.nbytes} bytes, but its {SIZE} is {region.size}", field=field)
    with _open(region, os.O_RDWR, field) as file:
        view, done = array.reshape(-1).view(numpy.uint8).data, 0
        while done < array.nbytes:
            done += os.pwrite(file, view[done:], region.offset + done)
    return region._replace(size=array.nbytes)


@contextlib.contextmanager
def _open(region: Region, mode: int, field: str) -> Iterator[int]:
    """Opens a region that has all its bytes at this moment; gives its file descriptor."""
    file = None
    try:
        # Without O_NONBLOCK a pipe with that name would block the worker.
        flags = mode | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        file = os.open(f"{FOLDER}/{region.key}", flags)
        found = os.fstat(file)
        # A second hard link may be outside the prefix.
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
            raise RequestError(f"the shared memory '{region.key}' of '{field}' is a link or not memory", field=field)
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
