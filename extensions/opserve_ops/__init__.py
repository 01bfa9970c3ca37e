"""The operators of opserve for PyTorch. Importing this package loads the library and registers everything."""

from . import _library

_library.load()

# Registration needs the operators to exist, so it comes after loading.
from . import _autograd  # noqa: E402
from . import _fake as _fake  # noqa: E402
from ._library import autograd_library_path, cuda_library_path, library_path  # noqa: E402
from .ops import (  # noqa: E402
    check_csr,
    cpu_capability,
    graph_conv,
    graph_conv_csr,
    scaled_add,
    warp_perspective,
)

if autograd_library_path() is None:
    _autograd.register()

__all__ = [
    "autograd_library_path",
    "check_csr",
    "cpu_capability",
    "cuda_library_path",
    "graph_conv",
    "graph_conv_csr",
    "library_path",
    "scaled_add",
    "warp_perspective",
]
