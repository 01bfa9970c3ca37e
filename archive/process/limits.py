"""Reads untrusted files in a separate process with limits on its memory, processor time and duration.

An archive can be crafted so that reading it takes forever, or all of the memory: by tables that point to themselves, by
aliases of aliases, by overlapping sections. Each known way is refused where it occurs; these limits are for the others.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from archive.errors import ArchiveError, OpserveError
from archive.process.fresh import OutputTooLong, TookTooLong, run_command
from archive.repository import ROOT

# In addition to what the process has before it opens the archive. A library's GPU code is read whole.
MEMORY_BYTES = 2 << 30
# Checking one of the archives that ship takes 0.2 s, reading and hashing a large one less than 1 s per 100 MB.
PROCESSOR_SECONDS, BYTES_PER_PROCESSOR_SECOND = 20, 20_000_000
# A machine may be busy, and a disk remote.
SECONDS, BYTES_PER_SECOND = 120, 2_000_000
# For an archive's sample and its manifest.
OUTPUT_BYTES = 128 << 20
_OUT_OF_MEMORY = 3
_CALL = "from archive.process import limits; limits.main()"


@dataclass(frozen=True)
class Limits:
    """Limits of reading one archive.

    Attributes:
        memory: bytes of address space in addition to those that the process has before it opens the archive.
        processor: seconds of processor time.
        seconds: seconds of wall-clock time.
    """

    memory: int = MEMORY_BYTES
    processor: int = PROCESSOR_SECONDS
    seconds: int = SECONDS

    @classmethod
    def of_file(cls, path: Path) -> Limits:
        """Limits that are ample for an archive of this size."""
        try:
            size = path.stat().st_size
        except OSError:
            size = 0
        return cls(
            processor=PROCESSOR_SECONDS + size // BYTES_PER_PROCESSOR_SECOND,
            seconds=SECONDS + size // BYTES_PER_SECOND,
        )


def call_limited(function: str, *arguments: str | None, limits: Limits) -> Any:
    """Calls a function in a fresh process with limits.

    Args:
        function: `module:name` of a function that returns something JSON can represent.
        arguments: its arguments.
        limits: the limits of the process.

    Raises:
        ArchiveError: in one line, the OpserveError that the function raised, or the limit that it exceeded.
    """
    given = json.dumps([function, arguments, limits.memory, limits.processor])
    try:
        done = run_command([sys.executable, "-c", _CALL, given], ROOT, {}, limits.seconds, OUTPUT_BYTES)
    except TookTooLong as error:
        raise ArchiveError(f"refused: checking it takes more than {limits.seconds} s") from error
    except OutputTooLong as error:
        raise ArchiveError(f"refused: its sample is larger than {OUTPUT_BYTES:,} bytes") from error
    if done.returncode == 0:
        return json.loads(done.stdout)
    if done.returncode == -signal.SIGXCPU:
        raise ArchiveError(f"refused: checking it takes more than {limits.processor} s of processor time")
    if done.returncode == _OUT_OF_MEMORY:
        raise ArchiveError(f"refused: checking it takes more than {limits.memory / 2**30:g} GiB of memory")
    raise ArchiveError(done.reason("checking it"))


def main() -> None:
    """Calls the function, in the fresh process."""
    function, arguments, memory, processor = json.loads(sys.argv[1])
    module, _, name = function.partition(":")
    called = getattr(importlib.import_module(module), name)
    _limit_this_process(memory, processor)
    try:
        json.dump(called(*arguments), sys.stdout)
        sys.stdout.flush()
    except MemoryError:
        # Anything more could need memory.
        os._exit(_OUT_OF_MEMORY)
    except OpserveError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: cannot be read: {error.strerror or error}")
    except RecursionError:
        sys.exit("error: refused: something in it is nested too deeply")


def _limit_this_process(memory: int, processor: int) -> None:
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    _lower(resource.RLIMIT_AS, taken + memory)
    used = resource.getrusage(resource.RUSAGE_SELF)
    _lower(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime) + processor)
    # A crash in here is the archive's doing; nobody needs its memory dumped to a file.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _lower(which: int, to: int) -> None:
    soft, hard = resource.getrlimit(which)
    bounds = [bound for bound in (soft, hard, to) if bound != resource.RLIM_INFINITY]
    # The hard limit stays higher: at that one the process would be killed without saying why.
    resource.setrlimit(which, (min(bounds), hard))
