"""The operators of opserve for PyTorch. Importing this package loads the library and registers everything."""

from . import _library

_library.load()

# Registration needs the operators to exist, so it comes after loading.
from . import _autograd, _fake  # noqa: E402
from ._library import autograd_library_path as autograd_library_path  # noqa: E402
from ._library import cpu_capability as cpu_capability  # noqa: E402
from ._library import cuda_library_path as cuda_library_path  # noqa: E402
from ._library import library_path as library_path  # noqa: E402

# The table of operators: importing one declares it.
from .operators.check_csr import check_csr as check_csr  # noqa: E402
from .operators.gcn_norm import gcn_norm as gcn_norm  # noqa: E402
from .operators.graph_conv import graph_conv as graph_conv  # noqa: E402
from .operators.graph_conv_csr import graph_conv_csr as graph_conv_csr  # noqa: E402
from .operators.scaled_add import scaled_add as scaled_add  # noqa: E402
from .operators.warp_perspective import warp_perspective as warp_perspective  # noqa: E402

_fake.register()
if autograd_library_path() is None:
    _autograd.register()
_library.explain_missing_cuda()
