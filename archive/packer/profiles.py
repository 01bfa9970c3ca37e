"""Profiles: named settings of a model, of which an archive is packed with one.

`opserve: profile:` in a configuration names the default, `opserve: profiles:` lists the settings. The packer writes
those of the chosen profile to where TorchServe and the worker look for them, so neither has to know about profiles.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from archive.errors import ArchiveError

# Keys of TorchServe, at the top of a configuration, and keys of the section `opserve:`.
SERVER_KEYS = ("minWorkers", "maxWorkers", "batchSize", "maxBatchDelay")
SECTION_KEYS = ("threads",)

# Those of the models under `archive/`. maxBatchDelay is how many milliseconds the first request of a
# batch may wait for others; TorchServe takes 0 for 100.
DEFAULT_PROFILES: dict[str, dict[str, Any]] = {
    # One request at a time, as fast as possible; `make start` works out the threads.
    "latency": {"minWorkers": 1, "maxWorkers": 1, "batchSize": 1, "maxBatchDelay": 1, "threads": "auto"},
    # Many requests at once; `make start` adds workers while there are cores for them.
    "throughput": {"minWorkers": 1, "maxWorkers": 16, "batchSize": 8, "maxBatchDelay": 1, "threads": 1},
}


def choose_profile(
    document: dict[str, Any], wanted: str | None, source: str, defaults: Mapping[str, Mapping[str, Any]] = {}
) -> dict[str, Any]:
    """A configuration with the settings of one profile, and without the others.

    Args:
        document: a parsed `model-config.yaml`; it is not changed.
        wanted: the profile's name, or `None` for the default one.
        source: the configuration's name in messages.
        defaults: profiles of a configuration that names one, unless it lists other settings for them.

    Returns:
        The document without `profiles`; `opserve.profile` is the chosen one's name, if the model has any.

    Raises:
        ArchiveError: there is no such profile, or the profiles are malformed.
    """
    section = document.get("opserve")
    if not isinstance(section, dict):
        return document
    profiles = _check_profiles(section.get("profiles", {}), source)
    if "profile" in section:
        profiles = {name: {**defaults.get(name, {}), **profiles.get(name, {})} for name in {**defaults, **profiles}}
    name = wanted if wanted is not None else section.get("profile")
    if not profiles:
        if name is not None:
            raise ArchiveError(f"{source}: has no profiles, so not '{name}' either; leave PROFILE out, or add it")
        return document
    if name is None:
        raise ArchiveError(f"{source}: opserve.profile must name the default of its profiles: {', '.join(profiles)}")
    if name not in profiles:
        raise ArchiveError(f"{source}: has no profile '{name}'; there are: {', '.join(profiles)}")
    chosen = profiles[name]
    rest = {key: value for key, value in section.items() if key != "profiles"}
    of_section = {key: chosen[key] for key in SECTION_KEYS if key in chosen}
    of_server = {key: chosen[key] for key in SERVER_KEYS if key in chosen}
    return document | of_server | {"opserve": rest | {"profile": name} | of_section}


def _check_profiles(profiles: Any, source: str) -> dict[str, dict[str, Any]]:
    if not isinstance(profiles, dict) or not all(isinstance(settings, dict) for settings in profiles.values()):
        raise ArchiveError(f"{source}: opserve.profiles: expected a mapping of names to settings, got {profiles!r}")
    known = (*SERVER_KEYS, *SECTION_KEYS)
    for name, settings in profiles.items():
        where = f"{source}: opserve.profiles.{name}"
        unknown = sorted(str(key) for key in settings.keys() - set(known))
        if unknown:
            raise ArchiveError(f"{where}: unknown key {', '.join(unknown)}; known are {', '.join(known)}")
        for key in SERVER_KEYS:
            if key in settings and (type(settings[key]) is not int or settings[key] < 1):
                raise ArchiveError(f"{where}.{key}: expected a whole number of 1 or more, got {settings[key]!r}")
    return profiles
