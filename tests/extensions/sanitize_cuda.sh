#!/bin/sh
# Runs the CUDA tests under NVIDIA's compute-sanitizer: memcheck, racecheck and initcheck, each of which must find nothing.
# Needs a GPU, a PyTorch with CUDA, the libraries for CUDA, and compute-sanitizer (part of the toolkit) on PATH.
#
#   tests/extensions/sanitize_cuda.sh [PYTHON]
set -eu

repository=$(cd "$(dirname "$0")/../.." && pwd)
python=${1:-$repository/.venv/bin/python}

fail() {
    echo "error: $1" >&2
    exit 1
}
command -v compute-sanitizer >/dev/null ||
    fail "compute-sanitizer is not on PATH: it is in the CUDA toolkit's bin folder (package cuda-sanitizer)"
"$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' ||
    fail "$python sees no GPU: install a CUDA build of PyTorch, or run this on a machine with a GPU"
"$python" -c 'import sys, opserve_ops; sys.exit(opserve_ops.cuda_library_path() is None)' ||
    fail "the operators are not built for CUDA; make ext CUDA=on builds them"

# PyTorch's caching of memory would hide accesses beyond a tensor. Left out are tests that are not about memory, or that
# take more of it, or longer, than the tool has patience for.
export PYTORCH_NO_CUDA_MEMORY_CACHING=1
for tool in memcheck racecheck initcheck; do
    echo "== $tool"
    compute-sanitizer --tool "$tool" --error-exitcode 1 \
        "$python" -m pytest -q -x -p no:cacheprovider "$repository/tests/extensions/test_cuda.py" \
        -k "not emulated and not own_product and not rejects and not captured and not stream and not beyond"
done
echo "Nothing found."
