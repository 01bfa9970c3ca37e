"""Which variables of a shell reach the server, with `make start` and with a `torchserve` typed by hand."""

import re

import pytest

from archive.errors import OpserveError
from archive.repository import ROOT
from scripts.torchserve import worker_environment
from scripts.torchserve.configuration import read_properties

SECRETS = (
    "AWS_SECRET_ACCESS_KEY",
    "SIGN_KEY",
    "GITHUB_TOKEN",
    "PASSWORD",
    "SSH_AUTH_SOCK",
    "JAVA_TOOL_OPTIONS",
    "LD_PRELOAD",
)
NEEDED = (
    "PATH",
    "HOME",
    "LC_ALL",
    "TZ",
    "CUDA_VISIBLE_DEVICES",
    "OMP_NUM_THREADS",
    "OPSERVE_THREADS",
    "LD_LIBRARY_PATH",
)


def test_only_listed_and_requested_variables_are_passed() -> None:
    shell = dict.fromkeys((*SECRETS, *NEEDED, "HF_HOME", "XPATH", "PATHX"), "x")
    assert set(worker_environment.filter_environment(shell)) == set(NEEDED)
    assert set(worker_environment.filter_environment(shell | {"OPSERVE_PASS_ENV": "HF_HOME, GITHUB_TOKEN"})) == {
        *NEEDED,
        "HF_HOME",
        "GITHUB_TOKEN",
        "OPSERVE_PASS_ENV",
    }


@pytest.mark.parametrize("names", ["A=b", "A .*", "9", "a-b", "(", "$HOME"])
def test_anything_but_a_name_is_refused(names: str) -> None:
    with pytest.raises(OpserveError, match="OPSERVE_PASS_ENV: expected names of environment variables"):
        worker_environment.filter_environment({"OPSERVE_PASS_ENV": names})


def test_a_server_started_by_hand_withholds_the_same() -> None:
    shipped = read_properties(ROOT / "config.properties")["blacklist_env_vars"]
    assert shipped == worker_environment.withheld_pattern()
    for name in (*SECRETS, "HF_HOME", "PATHX"):
        assert re.fullmatch(shipped, name), name
    for name in (*NEEDED, "PYTHONPATH", "TS_DECODE_INPUT_REQUEST", "LOG_LOCATION", "METRICS_LOCATION"):
        assert not re.fullmatch(shipped, name), name
    assert not re.fullmatch(worker_environment.withheld_pattern(["HF_HOME"]), "HF_HOME")
