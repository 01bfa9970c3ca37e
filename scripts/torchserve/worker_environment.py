"""What of a shell's environment reaches TorchServe and its workers: what they need, and no secrets meant for others."""

import re
from collections.abc import Collection, Mapping

from archive.errors import OpserveError

# Names of further variables, between spaces or commas.
SWITCH = "OPSERVE_PASS_ENV"
NAMES = (
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "PWD",
    "LANG",
    "LANGUAGE",
    "TZ",
    "TMPDIR",
    "TEMP",
    "JAVA_HOME",
    "LD_LIBRARY_PATH",
    "PYTHONUNBUFFERED",
    "PYTHONHASHSEED",
    "PYTHONFAULTHANDLER",
    "PYTHONWARNINGS",
    "OPSERVE_.*",
    "LC_.*",
    # How many threads, which devices, how numbers are computed.
    "CUDA_.*",
    "CUBLAS_.*",
    "CUDNN_.*",
    "NVIDIA_.*",
    "NCCL_.*",
    "OMP_.*",
    "GOMP_.*",
    "KMP_.*",
    "MKL_.*",
    "OPENBLAS_.*",
    "NUMEXPR_.*",
    "TORCH_.*",
    "PYTORCH_.*",
    "ORT_.*",
    "MALLOC_.*",
)
# What TorchServe itself sets for a worker.
TORCHSERVE = ("PYTHONPATH", "LOG_LOCATION", "METRICS_LOCATION", "TS_.*", "LOCAL_RANK")
_NAME = re.compile("[A-Za-z_][A-Za-z0-9_]*")


def passed(environment: Mapping[str, str]) -> dict[str, str]:
    """Those variables of an environment that a server is started with.

    Raises:
        OpserveError: OPSERVE_PASS_ENV holds something else than names of variables.
    """
    allowed = re.compile("|".join((*NAMES, *further(environment))))
    return {name: value for name, value in environment.items() if allowed.fullmatch(name)}


def further(environment: Mapping[str, str]) -> list[str]:
    """The names that OPSERVE_PASS_ENV adds."""
    names = environment.get(SWITCH, "").replace(",", " ").split()
    for name in names:
        if not _NAME.fullmatch(name):
            raise OpserveError(
                f"{SWITCH}: expected names of environment variables between spaces, for example "
                f"{SWITCH}='HF_HOME HTTPS_PROXY'; {name!r} is none"
            )
    return names


def withheld(names: Collection[str] = ()) -> str:
    """The pattern, for TorchServe's blacklist_env_vars, of all variables but those, and these further ones."""
    return f"(?!({'|'.join((*NAMES, *TORCHSERVE, *names))})$).*"
