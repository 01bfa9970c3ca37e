"""The packer: what it makes, and that a failure leaves the model store as it was."""

import hashlib
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

from archive.building.export import quiet_torchscript
from archive.errors import ArchiveError
from archive.packer import pack as packer
from archive.packer.contents import ArchiveContents
from archive.repository import ROOT
from tests.support.external import write_model_config
from tests.support.packed import files_in


def pack(*arguments, store: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "archive.pack", *map(str, arguments), "--model-store", str(store)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)


def pack_external(artifact: Path, config: Path, store: Path, *more, name: str = "mine"):
    return pack("--artifact", artifact, "--name", name, "--config", config, *more, store=store)


def test_an_archive_holds_all_that_a_worker_needs(external, tmp_path):
    done = pack_external(external.scripted, external.config, tmp_path, "--ops", external.library)
    assert done.returncode == 0, done.stderr
    first, needs = done.stdout.splitlines()
    digest = hashlib.sha256((tmp_path / "mine.mar").read_bytes()).hexdigest()
    assert re.match("mine 1.0, runtime (native|python): ", first) and first.endswith(f" bytes, sha256 {digest}")
    assert re.fullmatch(r"  libmine\.so needs x86_64, CXXABI [\d.]+, GLIBC [\d.]+, GLIBCXX [\d.]+", needs)
    files = files_in(tmp_path / "mine.mar")
    assert {"branching.pt", "libmine.so", "model-config.yaml", "opserve_handler.py"} <= files.keys()
    assert "handlers/model.py" in files and not any("__pycache__" in name for name in files)
    manifest = json.loads(files["MAR-INF/MANIFEST.json"])["model"]
    assert manifest["handler"] == "opserve_handler.py"
    section = json.loads(files["model-config.json"])
    assert (section["artifact"], section["threads"], section["hooks"]) == ("branching.pt", 1, None)
    assert manifest["configFile"] == "model-config.yaml"
    config = yaml.safe_load(files["model-config.yaml"])
    # Java stores them as milliseconds in 32 bits.
    assert 30 * 24 * 3600 > config["maxRetryTimeoutInSec"] > 20 * 24 * 3600
    assert config["maxRetryTimeoutInSec"] * 1000 < 2**31
    section = config["opserve"]
    assert (section["artifact"], section["op_libraries"]) == ("branching.pt", ["libmine.so"])
    # The request is made up from the signature, the answer is the model's own.
    values = json.loads(files["sample/request/body.json"])["x"]
    assert json.loads(files["sample/answer.json"])["y"] == pytest.approx([value + 10 for value in values])
    assert [path.name for path in tmp_path.iterdir()] == ["mine.mar"]


def test_a_sample_request_is_packed_as_it_is(external, tmp_path):
    sample = tmp_path / "request.json"
    sample.write_text('{"x": [-3, 1]}')
    done = pack_external(external.scripted, external.config, tmp_path, "--ops", external.library, "--sample", sample)
    assert done.returncode == 0, done.stderr
    files = files_in(tmp_path / "mine.mar")
    assert files["sample/request/body.json"] == sample.read_bytes()
    assert json.loads(files["sample/answer.json"]) == {"y": [-13, -9]}


def test_a_traced_model_is_packed_too(external, tmp_path):
    done = pack_external(external.traced, external.config, tmp_path, "--ops", external.library)
    assert done.returncode == 0, done.stderr


def test_a_setting_of_the_configuration_is_not_overridden(external, tmp_path):
    config = write_model_config(tmp_path / "mine.yaml")
    config.write_text(config.read_text() + "maxRetryTimeoutInSec: 300\n")
    assert pack_external(external.scripted, config, tmp_path, "--ops", external.library).returncode == 0
    assert yaml.safe_load(files_in(tmp_path / "mine.mar")["model-config.yaml"])["maxRetryTimeoutInSec"] == 300


def test_another_version_is_stored_next_to_the_first(external, tmp_path):
    (tmp_path / "mine.mar").write_bytes(b"the first")
    done = pack_external(external.scripted, external.config, tmp_path, "--ops", external.library, "--version", "2.0")
    assert done.stdout.startswith("mine 2.0, runtime ")
    assert (tmp_path / "mine.mar").read_bytes() == b"the first"
    manifest = json.loads(files_in(tmp_path / "mine@2.0.mar")["MAR-INF/MANIFEST.json"])["model"]
    assert (manifest["modelName"], manifest["modelVersion"]) == ("mine", "2.0")


class TestRefusals:
    """Each is one line with cause and fix, a non-zero exit, and an old archive left untouched."""

    @pytest.fixture
    def store(self, tmp_path) -> Path:
        folder = tmp_path / "store"
        folder.mkdir()
        (folder / "mine.mar").write_bytes(b"the old one")
        return folder

    @pytest.fixture(autouse=True)
    def nothing_changed(self, store):
        yield
        assert {path.name: path.read_bytes() for path in store.iterdir()} == {"mine.mar": b"the old one"}

    @staticmethod
    def refused(done: subprocess.CompletedProcess[str], *parts: str) -> None:
        assert done.returncode != 0
        assert "Traceback" not in done.stderr
        lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1, done.stderr
        for part in parts:
            assert part in lines[0]

    def test_an_unknown_model(self, store):
        self.refused(pack("digit", store=store), "there is no model 'digit'; there are: ", "digits")

    def test_an_absent_artifact(self, external, store, tmp_path):
        self.refused(pack_external(tmp_path / "no.pt", external.config, store), "no.pt does not exist; check ARTIFACT")

    def test_an_absent_library(self, external, store):
        done = pack_external(external.scripted, external.config, store, "--ops", "no.so")
        self.refused(done, "no.so does not exist; check OPS")

    def test_an_operator_that_no_library_registers(self, external, store):
        done = pack_external(external.scripted, external.config, store)
        self.refused(done, "branching.pt: it needs the operator mine::shift", "add the library")

    def test_a_library_that_does_not_load(self, external, store, tmp_path):
        broken = tmp_path / "libmine.so"
        broken.write_bytes(external.library.read_bytes()[:1000])
        done = pack_external(external.scripted, external.config, store, "--ops", broken)
        self.refused(done, "libmine.so: the operator library does not load: ")

    def test_a_library_that_kills_its_process(self, external, store, tmp_path):
        source = tmp_path / "abort.cpp"
        source.write_text("#include <cstdlib>\n__attribute__((constructor)) void die() { std::abort(); }\n")
        library = tmp_path / "libabort.so"
        subprocess.run(["g++", "-shared", "-fPIC", str(source), "-o", str(library)], check=True)
        done = pack_external(external.scripted, external.config, store, "--ops", library)
        self.refused(done, "its process was ended by SIGABRT while it loaded")

    def test_an_artifact_that_is_not_torchscript(self, external, store, tmp_path):
        (tmp_path / "junk.pt").write_bytes(b"junk")
        self.refused(pack_external(tmp_path / "junk.pt", external.config, store), "junk.pt: not a TorchScript model")

    def test_a_sample_the_model_refuses(self, external, store, tmp_path):
        sample = tmp_path / "request.json"
        sample.write_text('{"z": [1]}')
        done = pack_external(external.scripted, external.config, store, "--ops", external.library, "--sample", sample)
        self.refused(done, "'x' is missing")

    def test_a_wrong_signature(self, external, store, tmp_path):
        outputs = [{"name": "y", "dtype": "int64", "shape": [-1]}]
        config = write_model_config(tmp_path / "wrong.yaml", outputs=outputs)
        done = pack_external(external.scripted, config, store, "--ops", external.library)
        self.refused(done, "output 'y' is float32", "promises int64")

    def test_a_configuration_that_contradicts_the_arguments(self, external, store, tmp_path):
        config = write_model_config(tmp_path / "wrong.yaml", artifact="other.pt")
        self.refused(
            pack_external(external.scripted, config, store), "opserve.artifact is 'other.pt'", "make them agree"
        )

    def test_a_misspelt_key(self, external, store, tmp_path):
        config = write_model_config(tmp_path / "wrong.yaml", thread=1)
        self.refused(pack_external(external.scripted, config, store), "unknown key thread")

    def test_a_name_that_is_not_allowed(self, external, store):
        done = pack_external(external.scripted, external.config, store, name="../mine")
        self.refused(done, "NAME '../mine' is not allowed")

    def test_a_version_that_is_not_allowed(self, external, store):
        done = pack_external(external.scripted, external.config, store, "--version", "../2")
        self.refused(done, "VERSION '../2' is not allowed")

    def test_a_file_name_that_depends_on_the_system(self, external, store, tmp_path):
        artifact = tmp_path / "mein modell.pt"
        artifact.write_bytes(external.scripted.read_bytes())
        done = pack_external(artifact, external.config, store, "--ops", external.library)
        self.refused(done, "'mein modell.pt': rename it")

    def test_a_name_that_the_packer_needs(self, external, store, tmp_path):
        config = write_model_config(tmp_path / "mine.yaml", hooks="opserve.json")
        (tmp_path / "opserve.json").write_text("def preprocess(inputs): return inputs\n")
        done = pack_external(external.scripted, config, store, "--ops", external.library)
        self.refused(done, "opserve.json: the packer writes a file of this name; rename yours")

    def test_a_model_that_never_answers_the_same(self, store, tmp_path):
        class Dice(nn.Module):
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return torch.rand_like(x)

        with quiet_torchscript():
            torch.jit.script(Dice()).save(tmp_path / "dice.pt")
        done = pack_external(tmp_path / "dice.pt", write_model_config(tmp_path / "dice.yaml"), store)
        self.refused(done, "mine: the sample request gets a wrong answer: answer.y[0] is ")

    def test_two_files_of_one_name(self, external, store, tmp_path):
        sections = {"hooks": "branching.pt"}
        config = write_model_config(tmp_path / "wrong.yaml", **sections)
        (tmp_path / "branching.pt").write_bytes(b"")
        done = pack_external(external.scripted, config, store, "--ops", external.library)
        self.refused(done, "two files of the archive are named branching.pt")

    def test_a_wrong_expected_answer(self, store, tmp_path):
        """A shipped model whose library changed after its answer was recorded."""
        ours = ArchiveContents.from_model("digits")
        sample = tmp_path / "sample"
        (sample / "request").mkdir(parents=True)
        for path in (ours.sample / "request").iterdir():
            (sample / "request" / path.name).write_bytes(path.read_bytes())
        answer = json.loads((ours.sample / "answer.json").read_text())
        answer["probabilities"][0] += 1e-3
        (sample / "answer.json").write_text(json.dumps(answer))
        changed = replace(ours, sample=sample)
        with pytest.raises(ArchiveError, match=r"digits: .* wrong answer: answer\.probabilities\[0\] is "):
            packer.pack(changed, store)


def test_device_cuda_takes_the_libraries_for_cuda_along(tmp_path):
    for folder in ("archive/mine", "build/lib", "build/models/mine/sample"):
        (tmp_path / folder).mkdir(parents=True)
    document = yaml.safe_load((ROOT / "archive" / "scaled_add" / "model-config.yaml").read_text())
    (tmp_path / "build" / "models" / "mine" / document["opserve"]["artifact"]).touch()
    (tmp_path / "build" / "lib" / "libopserve_torch.so").touch()

    def gather(device: str) -> ArchiveContents:
        changed = document | {"opserve": document["opserve"] | {"device": device}}
        (tmp_path / "archive" / "mine" / "model-config.yaml").write_text(yaml.safe_dump(changed))
        return ArchiveContents.from_model("mine", root=tmp_path)

    assert [path.name for path in gather("auto").op_libraries] == ["libopserve_torch.so"]
    with pytest.raises(ArchiveError, match=r"libopserve_torch_cuda\.so does not exist; make ext CUDA=on"):
        gather("cuda")
    (tmp_path / "build" / "lib" / "libopserve_torch_cuda.so").touch()
    found = gather("cuda")
    assert [path.name for path in found.op_libraries] == ["libopserve_torch.so", "libopserve_torch_cuda.so"]
    assert found.document["opserve"]["op_libraries"] == list(found.config.op_libraries)
    assert found.config.op_libraries == ("libopserve_torch.so", "libopserve_torch_cuda.so")
