"""The settings that an archive is packed with."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from archive.errors import ArchiveError
from archive.packer.contents import ArchiveContents
from archive.packer.pack import pack
from archive.packer.profiles import DEFAULT_PROFILES, choose_profile
from archive.repository import ROOT, find_models
from handlers.config import ModelConfig
from handlers.integrity.manifest import MANIFEST_FILE, Manifest
from tests.support.packed import files_in

DOCUMENT = {
    "batchSize": 3,
    "responseTimeout": 60,
    "opserve": {
        "artifact": "mine.pt",
        "threads": 4,
        "profile": "one",
        "profiles": {
            "one": {"minWorkers": 1, "maxWorkers": 2, "threads": "auto"},
            "many": {"batchSize": 8, "maxBatchDelay": 5},
        },
    },
}


def test_the_default_is_the_one_that_is_named():
    assert choose_profile(DOCUMENT, None, "my.yaml") == {
        "batchSize": 3,
        "responseTimeout": 60,
        "minWorkers": 1,
        "maxWorkers": 2,
        "opserve": {"artifact": "mine.pt", "threads": "auto", "profile": "one"},
    }


def test_settings_that_a_profile_does_not_have_stay():
    chosen = choose_profile(DOCUMENT, "many", "my.yaml")
    assert (chosen["batchSize"], chosen["maxBatchDelay"]) == (8, 5)
    assert "minWorkers" not in chosen
    assert chosen["opserve"] == {"artifact": "mine.pt", "threads": 4, "profile": "many"}
    assert DOCUMENT["batchSize"] == 3 and "profiles" in DOCUMENT["opserve"]


def test_a_model_without_profiles_is_left_as_it_is():
    plain = {"batchSize": 3, "opserve": {"artifact": "mine.pt"}}
    assert choose_profile(plain, None, "my.yaml") == plain


def test_a_model_of_the_archive_folder_only_lists_how_it_differs_from_the_defaults():
    section = {"profile": "throughput", "profiles": {"throughput": {"batchSize": 32}, "patient": {"batchSize": 64}}}

    def chosen(name: str | None) -> dict:
        return choose_profile({"opserve": section}, name, "my.yaml", DEFAULT_PROFILES)

    assert (chosen(None)["batchSize"], chosen(None)["maxWorkers"]) == (32, 16)
    assert chosen("latency") == choose_profile({"opserve": {"profile": "latency"}}, None, "my.yaml", DEFAULT_PROFILES)
    assert chosen("patient") == {"batchSize": 64, "opserve": {"profile": "patient"}}
    plain = {"batchSize": 3, "opserve": {"artifact": "mine.pt"}}
    assert choose_profile(plain, None, "my.yaml", DEFAULT_PROFILES) == plain


def with_profiles(**changes) -> dict:
    return DOCUMENT | {"opserve": DOCUMENT["opserve"] | changes}


@pytest.mark.parametrize(
    ("document", "wanted", "said"),
    [
        (DOCUMENT, "fast", "my.yaml: has no profile 'fast'; there are: one, many"),
        (with_profiles(profile="fast"), None, "my.yaml: has no profile 'fast'; there are: one, many"),
        (with_profiles(profile=None), None, "opserve.profile must name the default of its profiles: one, many"),
        (with_profiles(profiles={}), None, "my.yaml: has no profiles, so not 'one' either"),
        ({"opserve": {}}, "one", "my.yaml: has no profiles, so not 'one' either; leave PROFILE out"),
        (with_profiles(profiles=["one"]), None, "opserve.profiles: expected a mapping of names to settings"),
        (with_profiles(profiles={"one": 3}), None, "opserve.profiles: expected a mapping of names to settings"),
        (
            with_profiles(profiles={"one": {}, "two": {"batchsize": 8}}),
            None,
            "opserve.profiles.two: unknown key batchsize; known are minWorkers, maxWorkers, batchSize",
        ),
        (with_profiles(profiles={"one": {"batchSize": 0}}), None, "opserve.profiles.one.batchSize: expected a whole"),
    ],
)
def test_a_mistake_is_named(document, wanted, said):
    with pytest.raises(ArchiveError) as raised:
        choose_profile(document, wanted, "my.yaml")
    assert said in str(raised.value)


@pytest.mark.parametrize("name", find_models())
def test_every_shipped_model_has_both(name):
    one, many = (ArchiveContents.from_model(name, profile=profile).document for profile in ("latency", "throughput"))
    assert (one["batchSize"], many["batchSize"]) == (1, 8)
    assert one["maxBatchDelay"] == many["maxBatchDelay"] == 1
    assert one["maxWorkers"] == 1 < many["maxWorkers"]
    assert (one["opserve"]["threads"], many["opserve"]["threads"]) == ("auto", 1)


def test_the_manifest_and_the_output_say_which(tmp_path):
    path, manifest = pack(ArchiveContents.from_model("scaled_add", profile="throughput"), tmp_path)
    assert manifest.profile == "throughput"
    files = files_in(path)
    assert Manifest.decode(files[MANIFEST_FILE]).profile == "throughput"
    config = yaml.safe_load(files["model-config.yaml"])
    assert config["batchSize"] == 8 and "profiles" not in config["opserve"]
    assert ModelConfig.parse(config).profile == "throughput"
    described = subprocess.run(
        [sys.executable, "-m", "archive.describe", str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert described.stdout.startswith("scaled_add 1.0, profile throughput, runtime ")


def test_the_last_one_packed_is_in_the_model_store(tmp_path):
    packed = {}
    for profile in ("latency", "throughput", "latency"):
        path, _ = pack(ArchiveContents.from_model("scaled_add", profile=profile), tmp_path)
        content = path.read_bytes()
        assert packed.setdefault(profile, content) == content
    assert [path.name for path in Path(tmp_path).iterdir()] == ["scaled_add.mar"]
    assert packed["latency"] != packed["throughput"]
