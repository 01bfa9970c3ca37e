"""Where the CUDA kernels run in the tests: on a GPU, or, compiled by the C++ compiler, on the CPU."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from tests.extensions.native_build import cmake_build


@dataclass(frozen=True)
class Backend:
    """The operators of one of the two, and the device their tensors must be on."""

    name: str
    device: str

    def op(self, name: str) -> Callable:
        return getattr(getattr(torch.ops, self.name), name).default

    def put(self, arg: object) -> object:
        """A tensor on the device, with its strides and its place in its storage; anything else as it is."""
        if not isinstance(arg, Tensor) or self.device == "cpu":
            return arg
        storage = torch.empty(0, dtype=arg.dtype).set_(arg.untyped_storage())
        return storage.to(self.device).as_strided(arg.shape, arg.stride(), arg.storage_offset())

    def call(self, op: str, *args: object) -> object:
        """The results on the CPU."""
        result = self.op(op)(*(self.put(arg) for arg in args))
        if isinstance(result, Tensor):
            return result.cpu()
        return None if result is None else tuple(tensor.cpu() for tensor in result)


CUDA = Backend("opserve", "cuda")


@pytest.fixture(scope="session")
def emulated() -> Backend:
    torch.ops.load_library(str(cmake_build() / "lib" / "libopserve_emulated.so"))
    return Backend("opserve_emulated", "cpu")
