"""Builds the package opserve_ops with its library inside, and the pybind11 module.

    pip wheel --no-build-isolation --no-deps ./extensions

The operator library uses PyTorch's stable ABI: one file for every later PyTorch and every Python. The pybind11 module
works with the PyTorch and the Python it was built with.
"""

import sys
from pathlib import Path

from setuptools import Extension, setup

try:
    import torch
    from torch.utils import cpp_extension
except ImportError as error:
    sys.exit(
        f"opserve_ops is built with the installed PyTorch, and none is installed ({error}). "
        "Build it with: pip wheel --no-build-isolation --no-deps ./extensions"
    )

sys.path.insert(0, str(Path(__file__).resolve().parent))
import sources

TORCH = str(Path(torch.__file__).parent)
# Opened with torch.ops.load_library, never imported; its name is the same in all build routes.
LIBRARY = "opserve_ops.lib.libopserve_torch"


class Build(cpp_extension.BuildExtension):
    """Builds the library under its own name, and each extension in its own folder."""

    build_temp: str

    def get_ext_filename(self, fullname: str) -> str:
        """Returns the file name of an extension; the library's has no suffix for a version of Python."""
        if fullname in (LIBRARY, LIBRARY.rpartition(".")[2]):
            return fullname.replace(".", "/") + ".so"
        return super().get_ext_filename(fullname)

    def build_extension(self, ext: Extension) -> None:
        """Builds an extension. In a shared folder each would compile the kernels again, with its own options."""
        shared = self.build_temp
        self.build_temp = str(Path(shared, ext.name))
        try:
            super().build_extension(ext)
        finally:
            self.build_temp = shared


# A plain Extension, since CppExtension links more of PyTorch than the stable ABI.
library = Extension(
    LIBRARY,
    sources.read(*sources.TORCH),
    language="c++",
    include_dirs=[str(sources.FOLDER / "include"), *cpp_extension.include_paths()],
    library_dirs=cpp_extension.library_paths(),
    libraries=["torch_cpu"],
    extra_compile_args=[*sources.compile_options(TORCH), sources.torch_target()],
    extra_link_args=sources.read("link"),
)
module = cpp_extension.CppExtension(
    "opserve_pybind",
    sources.read("check", "cpu", "pybind"),
    include_dirs=[str(sources.FOLDER / "include")],
    extra_compile_args=sources.compile_options(TORCH),
)

# Next to CMake's output, so that the sources stay clean.
outputs = sources.FOLDER.parent / "build" / "setuptools"
outputs.mkdir(parents=True, exist_ok=True)
setup(
    ext_modules=[library, module],
    cmdclass={"build_ext": Build},
    options={"build": {"build_base": str(outputs)}, "egg_info": {"egg_base": str(outputs)}},
)
