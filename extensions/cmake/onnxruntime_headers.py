#!/usr/bin/env python3
"""Finds the C headers of ONNX Runtime, which its wheels do not ship, and prints the folder that holds them.

Looked for in this order:

1. ONNXRUNTIME_INCLUDE_DIR, where it is set;
2. an installed libonnxruntime-dev;
3. the same package of Debian 13, fetched with `apt-get download` from the mirror that this Debian machine
   already uses, and unpacked into the folder given by --into. Nothing is installed and no right is needed: apt
   gets lists and a cache of its own. Only headers are taken, nothing is linked.

Exit status 1 and one line on standard error where none of them works. Needs the standard library only.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

HEADER = "onnxruntime_c_api.h"
# The oldest that a library is built for; newer headers serve it as well.
OLDEST_API = 18
SYSTEM = Path("/usr/include/onnxruntime")
PACKAGE = "libonnxruntime-dev"
SUITE = "trixie"
FIX = (
    f"Set ONNXRUNTIME_INCLUDE_DIR to the include/ folder of an official ONNX Runtime release "
    f"(1.{OLDEST_API} or newer), or install {PACKAGE}."
)


class MissingError(Exception):
    """No headers, and why."""


def api_version(folder: Path) -> int:
    """ORT_API_VERSION of the headers in a folder.

    Raises:
        MissingError: there are none, or they are too old.
    """
    header = folder / HEADER
    try:
        text = header.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise MissingError(f"{header} cannot be read ({error.strerror})") from None
    found = re.search(r"^#define ORT_API_VERSION (\d+)", text, re.MULTILINE)
    if found is None:
        raise MissingError(f"{header} does not say its ORT_API_VERSION")
    version = int(found[1])
    if version < OLDEST_API:
        raise MissingError(f"{header} is of API version {version}, but {OLDEST_API} or newer is needed")
    return version


def debian_sources(root: Path = Path("/")) -> list[str]:
    """This machine's package sources for the Debian release it runs, each rewritten to the suite wanted, as
    one-stanza deb822 texts, the likeliest first."""
    release = {}
    try:
        for line in (root / "etc/os-release").read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition("=")
            release[key] = value.strip("\"'")
    except OSError:
        return []
    if release.get("ID") != "debian":
        return []
    suites = {release.get("VERSION_CODENAME", ""), "stable", "oldstable", "testing", "unstable", "sid"} - {""}

    entries: list[dict[str, str]] = []
    folder = root / "etc/apt/sources.list.d"
    for path in [root / "etc/apt/sources.list", *sorted(folder.glob("*.list"))]:
        if path.is_file():
            entries.extend(one_line_entries(path.read_text(encoding="utf-8")))
    for path in sorted(folder.glob("*.sources")):
        entries.extend(deb822_entries(path.read_text(encoding="utf-8")))

    wanted = [
        entry
        for entry in entries
        if suites & set(entry.get("Suites", "").split()) and "main" in entry.get("Components", "").split()
    ]
    # Others publish for Debian's releases too; Debian's own archive ends in /debian on every mirror.
    wanted.sort(key=lambda entry: not entry["URIs"].rstrip("/").endswith("/debian"))
    rewritten = []
    for entry in wanted:
        fields = {**entry, "Types": "deb", "Suites": SUITE, "Components": "main"}
        text = "".join(f"{name}: {value}\n" for name, value in fields.items())
        if text not in rewritten:
            rewritten.append(text)
    return rewritten


def deb822_entries(text: str) -> Iterator[dict[str, str]]:
    for stanza in re.split(r"\n\s*\n", "\n".join(line for line in text.splitlines() if line[:1] != "#")):
        fields: dict[str, str] = {}
        name = ""
        for line in stanza.splitlines():
            if line[:1].isspace() and name:
                fields[name] += "\n " + line.strip()
            elif ":" in line:
                name, _, value = line.partition(":")
                name = {"uris": "URIs"}.get(name.strip().lower(), name.strip().title())
                fields[name] = value.strip()
        if "deb" in fields.get("Types", "").split() and "URIs" in fields and fields.get("Enabled") != "no":
            yield fields


def one_line_entries(text: str) -> Iterator[dict[str, str]]:
    for line in text.splitlines():
        found = re.match(r"deb\s+(?:\[([^]]*)\]\s+)?(\S+)\s+(\S+)\s+([^#]+)", line.strip())
        if found is None:
            continue
        options, uri, suite, components = found.groups()
        fields = {"Types": "deb", "URIs": uri, "Suites": suite, "Components": components.strip()}
        for option in (options or "").split():
            name, _, value = option.partition("=")
            if name.lower() == "signed-by":
                fields["Signed-By"] = value.replace(",", " ")
            elif name.lower() == "trusted":
                fields["Trusted"] = value
        yield fields


def run(command: list[str], folder: Path) -> str | None:
    """Runs a command; the last line it complained with, or None where it succeeded."""
    try:
        result = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True, timeout=300)
    except OSError as error:
        return f"{command[0]}: {error.strerror}"
    except subprocess.TimeoutExpired:
        return f"{command[0]} took more than 300 seconds"
    if result.returncode == 0:
        return None
    lines = [line for line in result.stderr.splitlines() if line.strip()] or [f"status {result.returncode}"]
    errors = [line for line in lines if line.startswith("E:")] or lines
    return f"{command[0]}: {errors[0]}"


def download(into: Path) -> Path:
    """Unpacks the headers of the Debian package into a folder, and gives the one they lie in.

    Raises:
        MissingError: this is not Debian, or apt could not fetch the package.
    """
    kept = into / "usr/include/onnxruntime"
    if (kept / HEADER).is_file():
        return kept
    for tool in ("apt-get", "dpkg"):
        if shutil.which(tool) is None:
            raise MissingError(f"{PACKAGE} is not installed, and there is no {tool} to fetch it with")
    sources = debian_sources()
    if not sources:
        raise MissingError(f"{PACKAGE} is not installed, and this machine has no Debian package source to take it from")
    into.parent.mkdir(parents=True, exist_ok=True)
    reason: str | None = None
    with tempfile.TemporaryDirectory(dir=into.parent, prefix=f"{into.name}.") as name:
        work = Path(name)
        for source in sources:
            for folder in ("parts", "lists/partial", "cache/archives/partial", "deb", "unpacked"):
                (work / folder).mkdir(parents=True, exist_ok=True)
            (work / "parts/debian.sources").write_text(source, encoding="utf-8")
            apt = ["apt-get", "-q"]
            for option in (
                "Dir::Etc::SourceList=/dev/null",
                f"Dir::Etc::SourceParts={work}/parts",
                f"Dir::State::Lists={work}/lists",
                f"Dir::Cache={work}/cache",
                # The folders are ours alone: the user apt would otherwise step down to could not write there.
                "APT::Sandbox::User=",
                "Acquire::Languages=none",
                "Acquire::Retries=1",
                "Acquire::http::Timeout=20",
                "Acquire::https::Timeout=20",
            ):
                apt += ["-o", option]
            reason = run([*apt, "-o", "APT::Update::Error-Mode=any", "update"], work)
            reason = reason or run([*apt, "download", PACKAGE], work / "deb")
            if reason is not None:
                continue
            package = next((work / "deb").glob("*.deb"))
            reason = run(["dpkg", "-x", str(package), str(work / "unpacked")], work)
            if reason is not None:
                continue
            try:
                (work / "unpacked").rename(into)
            except OSError:
                # Another build was faster, or an unfinished folder of another kind lies there.
                if not (kept / HEADER).is_file():
                    raise
            return kept
    raise MissingError(f"{PACKAGE} of Debian {SUITE} could not be fetched ({reason})")


def find(into: Path) -> Path:
    """The folder with the headers.

    Raises:
        MissingError: there are none to be had.
    """
    named = os.environ.get("ONNXRUNTIME_INCLUDE_DIR")
    if named:
        folders = [Path(named), Path(named) / "onnxruntime", Path(named) / "onnxruntime/core/session"]
        folder = next((folder for folder in folders if (folder / HEADER).is_file()), folders[0]).resolve()
        try:
            api_version(folder)
        except MissingError as error:
            raise MissingError(f"ONNXRUNTIME_INCLUDE_DIR is set, but {error}") from None
        return folder
    if (SYSTEM / HEADER).is_file():
        try:
            api_version(SYSTEM)
        except MissingError:
            pass
        else:
            return SYSTEM
    folder = download(into)
    api_version(folder)
    return folder


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(__file__).resolve().parents[2] / "build/onnxruntime-headers"
    parser.add_argument("--into", type=Path, default=default, help="where to unpack a fetched package")
    arguments = parser.parse_args()
    try:
        print(find(arguments.into.resolve()))
    except (MissingError, OSError) as error:
        print(f"No ONNX Runtime headers: {error}. {FIX}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
