"""The command line of every benchmark, and the files that it writes."""

import argparse
import json
import math
import os
import platform
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

import opserve_ops

# The load average above which other processes distort the figures.
BUSY = 0.5


def make_parser(name: str, description: str, only: str = "") -> argparse.ArgumentParser:
    """Makes a parser with the options that every benchmark has.

    Args:
        name: The benchmark's package.
        description: What it measures, and in which units.
        only: What `--only` selects from; there is no such option if this is empty.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{name}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--quick", action="store_true", help="a short run, to see that it works; its figures mean little"
    )
    parser.add_argument("--output", type=Path, metavar="FOLDER", help=f"where to write {name}.md and {name}.json")
    if only:
        help_text = f"a regular expression: measure only the {only} that it matches"
        parser.add_argument("--only", type=re.compile, default=re.compile(""), metavar="PATTERN", help=help_text)
    return parser


def describe_machine() -> dict[str, object]:
    """Describes what the figures are measured on, as a table of names and values; warns if it is busy."""
    processor = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file() and (names := re.findall(r"^model name\s*: (.*)$", info.read_text(), re.MULTILINE)):
        processor = names[0]
    load = round(os.getloadavg()[0], 2)
    if load > BUSY:
        print(f"warning: other processes use this machine (load {load}), which distorts the figures", file=sys.stderr)
    return {
        "processor": processor,
        "cores": os.cpu_count(),
        "cpu_capability": opserve_ops.cpu_capability(),
        "torch": torch.__version__,
        "torch_cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "mkl": torch.backends.mkl.is_available(),
        "python": platform.python_version(),
        "load": load,
    }


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; a column is right-aligned if its title begins with a space."""
    lines = [header, [" ---:" if title.startswith(" ") else "---" for title in header], *rows]
    return "\n".join("| " + " | ".join(str(cell).strip() for cell in line) + " |" for line in lines)


def write_results(
    folder: Path | None,
    name: str,
    *,
    title: str,
    introduction: str,
    machine: Mapping[str, object],
    body: str,
    figures: Mapping[str, Any],
    plots: Mapping[str, Callable[[Path], object]] | None = None,
) -> None:
    """Writes `NAME.md` for people, `NAME.json` for programs and plots, and prints where.

    Args:
        folder: Where to; nothing is written if it is `None`.
        name: The benchmark's package.
        title: The heading of the page.
        introduction: What the page contains, and in which units.
        machine: What the figures were measured on.
        body: The rest of the page in Markdown.
        figures: The figures; a NaN becomes null in JSON.
        plots: What draws each plot, by file name.
    """
    if folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"machine": machine, **_without_nan(figures)}, indent=1, ensure_ascii=False)
    (folder / f"{name}.json").write_text(text + "\n")
    measured_on = ", ".join(f"{key} {value}" for key, value in machine.items())
    page = f"# {title}\n\nWritten by `python -m benchmarks.{name}`. {introduction}\n\n{measured_on}.\n\n{body}\n"
    (folder / f"{name}.md").write_text(page)
    for file, draw in (plots or {}).items():
        draw(folder / file)
    for file in (f"{name}.json", f"{name}.md", *(plots or ())):
        print(f"wrote {folder / file}")


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nan(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(each) for each in value]
    return None if isinstance(value, float) and math.isnan(value) else value
