"""The Makefile: the settings that it refuses or passes on, and what it does not do twice."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from archive.repository import ROOT

# Replaces .venv/bin/python and cmake: records its arguments, and makes the files that the real ones would make.
STAND_IN = """\
#!/bin/bash
echo "$(basename "$0")" "$(printf '<%s>' "$@")" >> "$CALLS"
case "$*" in
  *sysconfig*) echo "$PWD/.venv/site" ;;
  "-m archive.pack --artifact"*) ;;
  "-m archive.pack "*) mkdir -p model_store; touch "model_store/${@: -1}.mar" ;;
  "-m archive.describe "*) ;;
  "-m archive."*) mkdir -p "$4" ;;
  "-m scripts.worker --stamp "*)
    if [[ -n ${NO_WORKER:-} ]]; then
      [[ -e $4 ]] || touch "$4"
    else
      place=.venv/lib/python3/site-packages/ts/cpp/bin
      mkdir -p $place; touch $place/model_worker_socket "$4"
    fi ;;
  "--build "*) mkdir -p build/lib; touch build/lib/libopserve_torch.so ;;
esac
"""
ENVIRONMENT = """\
from pathlib import Path
stamp = Path(".venv/opserve.json")
if not stamp.exists():
    stamp.write_text("{}")
"""


class MakefileSandbox:
    """A folder with the real Makefile, and stand-ins for everything that it calls."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.calls_file = root / "calls"
        shutil.copy(ROOT / "Makefile", root)
        for path, text in {
            "scripts/environment.py": ENVIRONMENT,
            "extensions/CMakeLists.txt": "",
            "handlers/handler.py": "",
            "archive/building/export.py": "",
            "archive/packer/pack.py": "",
            "archive/one/build.py": "",
            "archive/one/build_onnx.py": "",
            "archive/one/model-config.yaml": "",
            "archive/one/model-config.onnx.yaml": "",
            "archive/two/build.py": "",
            "archive/two/model-config.yaml": "",
        }.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text)
        (root / ".venv" / "site").mkdir(parents=True)
        (root / ".venv" / "bin").mkdir()
        for name in ("python", "cmake"):
            (root / ".venv" / "bin" / name).write_text(STAND_IN)
            (root / ".venv" / "bin" / name).chmod(0o755)

    def make(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Runs make here, without the variables of an outer make."""
        self.calls_file.unlink(missing_ok=True)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
        for name in ("MODEL", "WORKERS", "TESTS"):
            kept.pop(name, None)
        return subprocess.run(
            ["make", *words],
            cwd=self.root,
            env=kept | {"CALLS": str(self.calls_file)} | environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def calls(self) -> list[str]:
        """Returns the calls of the stand-ins."""
        if not self.calls_file.exists():
            return []
        return self.calls_file.read_text().splitlines()


@pytest.fixture
def sandbox(tmp_path: Path) -> MakefileSandbox:
    return MakefileSandbox(tmp_path)


def test_help_is_the_default_and_lists_every_target(sandbox: MakefileSandbox) -> None:
    shown = sandbox.make()
    assert shown.returncode == 0
    listed = {line.split()[0] for line in shown.stdout.splitlines()[1:]}
    phony = " ".join(re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)).split()
    assert listed == set(phony) - {"FORCE"}
    assert all(len(line.split()) > 2 for line in shown.stdout.splitlines()[1:])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["scale", "MODLE=one", "WORKERS=2"], "no such setting: MODLE; there are: PYTHON"),
        (["help", "Model=one"], "no such setting: Model"),
        (["scale", "MODEL=one"], "make scale needs WORKERS, for example: make scale MODEL=digits WORKERS=2"),
        (["scale", "WORKERS=2"], "make scale needs MODEL"),
        (["predict"], "make predict needs MODEL"),
        (["deploy", "MODEL=one"], "make deploy needs VERSION, for example: make deploy MODEL=digits VERSION=2.0"),
        (["remove", "VERSION=2.0"], "make remove needs MODEL"),
        (["deploy", "VERSION=2.0"], "make deploy needs MODEL"),
        (["archive", "MODEL=three"], "no model 'three' in archive/; there are: one one_onnx two"),
        (["serve", "MODEL=on"], "no model 'on' in archive/; there are: one one_onnx two"),
        (["train", "MODEL=one two"], "no model 'one two' in archive/; there are: one one_onnx two"),
        (["archive", "ARTIFACT=my.pt", "NAME=mine"], "needs CONFIG too"),
        (["archive", "OPS=my.so"], "needs ARTIFACT NAME CONFIG too"),
        (["archive", "ARTIFACT=a", "NAME=b", "CONFIG=c", "MODEL=one"], "give one of them"),
        (["archive", "RUNTIME=java"], "RUNTIME is native or python, not 'java'"),
        (["serve", "RUNTIME=native python"], "RUNTIME is native or python, not 'native python'"),
        (["new-model"], "make new-model needs NAME, for example: make new-model NAME=mine"),
        (["new-op", "KIND=rowwise"], "make new-op needs NAME, for example: make new-op NAME=row_norm KIND=rowwise"),
        (["serv"], "No rule to make target 'serv'"),
    ],
)
def test_a_mistyped_line_is_an_error_that_names_it(sandbox: MakefileSandbox, words: list[str], message: str) -> None:
    failed = sandbox.make(*words)
    assert failed.returncode != 0
    assert message in failed.stderr
    assert sandbox.calls() == []


@pytest.mark.parametrize(
    "value",
    [
        "a b",
        "x; touch harm",
        "$(shell touch harm)",
        "$(touch harm)",
        "`touch harm`",
        "'; touch harm; '",
        '"$HOME"',
        "a#b",
    ],
)
def test_a_value_reaches_the_script_as_it_is(sandbox: MakefileSandbox, value: str) -> None:
    done = sandbox.make("scale", f"MODEL={value}", f"WORKERS={value}")
    assert done.returncode == 0, done.stderr
    assert sandbox.calls() == [f"python <-m><scripts.scale><--><{value}><{value}>"]
    done = sandbox.make("archive", f"ARTIFACT={value}", "NAME=mine", f"CONFIG={value}")
    assert done.returncode == 0, done.stderr
    assert sandbox.calls()[-1] == f"python <-m><archive.pack><--artifact><{value}><--name><mine><--config><{value}>"
    assert not (sandbox.root / "harm").exists()


def test_your_own_model_is_packed_with_the_given_files(sandbox: MakefileSandbox) -> None:
    done = sandbox.make("archive", "ARTIFACT=a.pt", "OPS=a.so,b.so", "NAME=mine", "CONFIG=c.yaml", "SAMPLE=r.json")
    assert done.returncode == 0, done.stderr
    assert sandbox.calls()[-1] == (
        "python <-m><archive.pack><--artifact><a.pt><--name><mine><--config><c.yaml><--ops><a.so,b.so>"
        "<--sample><r.json>"
    )


@pytest.mark.parametrize(
    ("words", "call"),
    [
        (["clean"], "python <-m><scripts.clean>"),
        (["start"], "python <-m><scripts.start>"),
        (["start", "MODEL_API=1"], "python <-m><scripts.start><--model-api>"),
        (["serve", "MODEL=one", "MODEL_API=1"], "python <-m><scripts.start><--model-api><--predict>"),
        (["deploy", "MODEL=one", "VERSION=2.0; x"], "python <-m><scripts.deploy><--><one><2.0; x>"),
        (["remove", "MODEL=one"], "python <-m><scripts.remove><--><one>"),
        (["remove", "MODEL=one", "VERSION=2.0; x"], "python <-m><scripts.remove><--><one><2.0; x>"),
        (["predict", "MODEL=one", "GRPC=1"], "python <-m><scripts.predict><--grpc><--><one>"),
        (["test"], "python <-m><pytest><-n><2><--dist><loadfile><--no-loadscope-reorder>"),
        (["test", "TESTS=tests/a b.py::c[1]"], "python <-m><pytest><tests/a b.py::c[1]>"),
        (["new-model", "NAME=a b; x"], "python <-m><scripts.new_model><--><a b; x>"),
        (["new-op", "NAME=a b; x"], "python <-m><scripts.new_op><--><a b; x>"),
        (["new-op", "NAME=mine", "KIND=$(id)"], "python <-m><scripts.new_op><--kind=$(id)><--><mine>"),
        (["predict", "MODEL=one", "REQUEST=a b"], "python <-m><scripts.predict><--request><a b><--><one>"),
    ],
)
def test_a_setting_becomes_an_option(sandbox: MakefileSandbox, words: list[str], call: str) -> None:
    done = sandbox.make(*words)
    assert done.returncode == 0, done.stderr
    assert sandbox.calls()[-1] == call


def test_settings_of_packing_and_starting_are_passed_on(sandbox: MakefileSandbox) -> None:
    assert sandbox.make("archive", "MODEL=one", "PROFILE=a b").returncode == 0
    assert sandbox.calls()[-1] == "python <-m><archive.pack><--profile><a b><one>"
    for _ in range(2):  # it may not be what was packed last
        assert sandbox.make("archive", "MODEL=one", "RUNTIME=python").returncode == 0
        assert sandbox.calls() == ["python <-m><archive.pack><--runtime><python><one>"]
    assert sandbox.make("start", "QUIET=1", "MODEL_API=1").returncode == 0
    assert sandbox.calls() == ["python <-m><scripts.start><--model-api><--quiet>"]
    assert sandbox.make("start").returncode == 0
    assert sandbox.calls() == ["python <-m><scripts.start>"]


def test_variables_of_the_shell_are_ignored(sandbox: MakefileSandbox) -> None:
    done = sandbox.make("archive", NAME="a-hostname", CONFIG="else", MODEL="nope", OPS="x")
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (sandbox.root / "model_store").iterdir()} == {"one.mar", "one_onnx.mar", "two.mar"}


def test_nothing_is_built_twice_and_a_change_rebuilds_what_depends_on_it(sandbox: MakefileSandbox) -> None:
    def built(*words: str) -> list[str]:
        done = sandbox.make("archive", *words)
        assert done.returncode == 0, done.stderr
        return [" ".join(re.findall("<(archive[^>]*|--build|one|one_onnx|two)>", call)) for call in sandbox.calls()]

    def touch(path: str) -> None:
        newest = max(file.stat().st_mtime_ns for file in sandbox.root.rglob("*") if file.is_file())
        os.utime(sandbox.root / path, ns=(newest + 10**7, newest + 10**7))

    first = built("MODEL=one")
    assert first[-2:] == ["archive.one.build", "archive.pack one"]
    assert "--build archive_libraries" in first
    # What is not packed again is described.
    rest = ["archive.one.build_onnx", "archive.pack one_onnx", "archive.two.build", "archive.pack two"]
    assert built() == [*rest, "archive.describe"]
    assert built() == ["archive.describe"]
    archives = "".join(f"<model_store/{name}.mar>" for name in ("one", "one_onnx", "two"))
    assert sandbox.calls()[-1] == f"python <-m><archive.describe>{archives}"
    pack_all = ["archive.pack one", "archive.pack one_onnx", "archive.pack two"]
    touch("handlers/handler.py")
    assert built() == pack_all
    touch("archive/two/model-config.yaml")
    assert built() == ["archive.pack two", "archive.describe"]
    touch("archive/two/build.py")
    assert built() == ["archive.two.build", "archive.pack two", "archive.describe"]
    # A variant has the configuration and the weights of the model whose folder it shares.
    touch("archive/one/model-config.yaml")
    assert built() == ["archive.pack one", "archive.pack one_onnx", "archive.describe"]
    touch("archive/one/build.py")
    assert [call for call in built("MODEL=one_onnx") if "build" in call] == [
        "archive.one.build",
        "archive.one.build_onnx",
    ]
    assert "archive.pack one" in built()
    touch("archive/building/export.py")
    assert sorted(built()) == ["archive.one.build", "archive.one.build_onnx", *pack_all, "archive.two.build"]
    touch("extensions/CMakeLists.txt")
    again = built()
    assert "--build archive_libraries" in again
    assert not any("build" in call for call in again if call.startswith("archive"))
    assert again[-3:] == pack_all


def test_the_worker_is_built_once_it_can_be_and_archives_are_packed_for_it_then(sandbox: MakefileSandbox) -> None:
    def packed(**environment: str) -> tuple[bool, bool]:
        done = sandbox.make("archive", **environment)
        assert done.returncode == 0, done.stderr
        calls = sandbox.calls()
        tried = any("native_worker" in call for call in calls)
        assert ("python <-m><scripts.worker><--stamp><build/.worker>" in calls) == tried
        return tried, any("archive.pack" in call for call in calls)

    assert packed(NO_WORKER="1") == (True, True)
    assert packed(NO_WORKER="1") == (True, False)
    assert packed() == (True, True)
    assert packed() == (False, False)
    # It is put into an environment that is made anew.
    shutil.rmtree(sandbox.root / ".venv" / "lib")
    assert packed() == (True, True)


def test_make_ext_leaves_opserve_ops_importable(sandbox: MakefileSandbox) -> None:
    assert sandbox.make("ext").returncode == 0
    assert any(call.startswith("cmake <--build>") and "native_worker" in call for call in sandbox.calls())
    assert (sandbox.root / ".venv" / "site" / "opserve.pth").read_text() == f"{sandbox.root}/extensions\n"


def test_a_missing_environment_is_reported(sandbox: MakefileSandbox) -> None:
    shutil.rmtree(sandbox.root / ".venv")
    failed = sandbox.make("status")
    assert failed.returncode != 0
    assert "there is no .venv; `make env` makes it" in failed.stderr


SANITIZER = '#!/bin/sh\necho compute-sanitizer "$@" >> "$CALLS"\n'


def test_the_sanitizer_of_cuda_reports_what_is_missing(sandbox: MakefileSandbox, tmp_path: Path) -> None:
    script = sandbox.root / "tests" / "extensions" / "sanitize_cuda.sh"
    script.parent.mkdir(parents=True)
    shutil.copy(ROOT / "tests" / "extensions" / "sanitize_cuda.sh", script)
    tools = sandbox.root / "tools"
    tools.mkdir()
    for name in ("make", "bash", "sh", "dirname", "basename", "find", "env"):
        (tools / name).symlink_to(shutil.which(name))
    failed = sandbox.make("sanitize-cuda", PATH=str(tools))
    assert failed.returncode != 0
    assert "error: compute-sanitizer is not on PATH: it is in the CUDA toolkit's bin folder" in failed.stderr
    (tools / "compute-sanitizer").write_text(SANITIZER)
    (tools / "compute-sanitizer").chmod(0o755)
    done = sandbox.make("sanitize-cuda", PATH=str(tools))
    assert done.returncode == 0, done.stderr
    ran = [call.split()[2] for call in sandbox.calls() if call.startswith("compute-sanitizer")]
    assert ran == ["memcheck", "racecheck", "initcheck"]
    # This stand-in answers that PyTorch sees no GPU.
    (sandbox.root / ".venv" / "bin" / "python").write_text("#!/bin/sh\nexit 1\n")
    failed = sandbox.make("sanitize-cuda", PATH=str(tools))
    assert failed.returncode != 0
    assert "sees no GPU: install a CUDA build of PyTorch" in failed.stderr
