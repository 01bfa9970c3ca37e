"""Which variables of a shell reach TorchServe and its workers: those they need, and no secrets meant for others."""

import re
from collections.abc import Collection, Mapping

from archive.errors import OpserveError

# Holds the names of further variables.
SWITCH = "OPSERVE_PASS_ENV"
NAMES = (
    *"PATH HOME USER LOGNAME SHELL PWD LANG LANGUAGE TZ TMPDIR TEMP JAVA_HOME LD_LIBRARY_PATH".split(),
    *"PYTHONUNBUFFERED PYTHONHASHSEED PYTHONFAULTHANDLER PYTHONWARNINGS OPSERVE_.* LC_.*".split(),
    # Numbers of threads, devices, numerics.
    *"CUDA_.* CUBLAS_.* CUDNN_.* NVIDIA_.* NCCL_.* OMP_.* GOMP_.* KMP_.* MKL_.* OPENBLAS_.* NUMEXPR_.*".split(),
    *"TORCH_.* PYTORCH_.* ORT_.* MALLOC_.*".split(),
)
# Set for a worker by TorchServe itself.
TORCHSERVE = ("PYTHONPATH", "LOG_LOCATION", "METRICS_LOCATION", "TS_.*", "LOCAL_RANK")
_NAME = re.compile("[A-Za-z_][A-Za-z0-9_]*")


def filter_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Returns the variables of an environment that a server is started with."""
    allowed = re.compile("|".join((*NAMES, *extra_names(environment))))
    return {name: value for name, value in environment.items() if allowed.fullmatch(name)}


def extra_names(environment: Mapping[str, str]) -> list[str]:
    """Returns the names that OPSERVE_PASS_ENV adds."""
    names = environment.get(SWITCH, "").replace(",", " ").split()
    for name in names:
        if not _NAME.fullmatch(name):
            raise OpserveError(
                f"{SWITCH}: expected names of environment variables separated by spaces or commas, for example "
                f"{SWITCH}='HF_HOME HTTPS_PROXY', got {name!r}"
            )
    return names


def withheld_pattern(names: Collection[str] = ()) -> str:
    """Returns a pattern for TorchServe's blacklist_env_vars: all variables but the listed ones and these."""
    return f"(?!({'|'.join((*NAMES, *TORCHSERVE, *names))})$).*"
