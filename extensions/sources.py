"""Reads sources.txt: the sources and options that all build routes share."""

from pathlib import Path

FOLDER = Path(__file__).resolve().parent


# What libopserve_torch consists of.
TORCH = ("check", "cpu", "torch", "torch_cpu")


def read(*kinds: str) -> list[str]:
    """Returns the values of these kinds, in the order of the file.

    Raises:
        KeyError: A kind has no value.
    """
    lines = (FOLDER / "sources.txt").read_text().splitlines()
    pairs = [line.split(maxsplit=1) for line in lines if line and not line.startswith("#")]
    for kind in kinds:
        if not any(name == kind for name, _ in pairs):
            raise KeyError(f"{FOLDER / 'sources.txt'} has no line '{kind} …'")
    return [value.strip() for kind in kinds for name, value in pairs if name == kind]


def torch_target() -> str:
    """Returns the option that limits PyTorch's headers to the stable ABI of the oldest version to serve."""
    (version,) = read("torch_target")
    major, minor = map(int, version.split("."))
    return f"-DTORCH_TARGET_VERSION={(major << 56) | (minor << 48):#018x}ULL"


def compile_options(torch_folder: str) -> list[str]:
    """Returns the options for the kernels and the bindings; `torch_folder` is where PyTorch is installed."""
    # The same bytes from the same sources in any folder; GCC resolves links in the names of system headers.
    places = {str(FOLDER): "extensions", str(Path(torch_folder).resolve()): "torch", torch_folder: "torch"}
    return [
        *read("compile"),
        "-DNDEBUG",
        "-g0",
        *(f"-ffile-prefix-map={place}={name}" for place, name in places.items()),
    ]
