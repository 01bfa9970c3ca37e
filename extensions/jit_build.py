"""Builds the operator library with PyTorch's own just-in-time build, to try out a change of a kernel.

    import jit_build                     # from extensions/
    path = jit_build.load()              # torch.ops.opserve works from here on

`opserve_ops` uses this library instead of CMake's if OPSERVE_LIBRARY_DIR names its folder.
"""

import shlex
from pathlib import Path

import sources
import torch
from torch.utils import cpp_extension


def load(build_directory: str | Path | None = None, *, verbose: bool = False) -> Path:
    """Compiles the sources that changed, loads the library and returns its path.

    Args:
        build_directory: Where to build; by default where PyTorch builds its extensions.
        verbose: Whether to print the compiler's output.

    Raises:
        RuntimeError: It does not compile; the message includes the compiler's.
        OSError: It does not load.
    """
    if build_directory is not None:
        Path(build_directory).mkdir(parents=True, exist_ok=True)
    torch_folder = str(Path(torch.__file__).parent)
    path = cpp_extension.load(
        name="libopserve_torch",
        sources=[str(sources.FOLDER / path) for path in sources.read(*sources.TORCH)],
        extra_include_paths=[str(sources.FOLDER / "include")],
        # PyTorch passes these to a shell unquoted.
        extra_cflags=[shlex.quote(flag) for flag in [*sources.compile_options(torch_folder), sources.torch_target()]],
        # Before the libraries that PyTorch adds, so that --as-needed leaves them out, above all Python's.
        extra_ldflags=[
            *sources.read("link"),
            shlex.quote(f"-L{cpp_extension.TORCH_LIB_PATH}"),
            "-ltorch_cpu",
            "-lstdc++",
        ],
        build_directory=None if build_directory is None else str(build_directory),
        is_python_module=False,
        verbose=verbose,
    )
    return Path(path)
