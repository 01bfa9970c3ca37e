"""Profiles of a model: settings under one name, of which an archive is packed with one set.

A configuration lists them under `opserve: profiles:` and names its default in `opserve: profile:`. The packer puts the
chosen one's keys where TorchServe and the worker look for them, so that they know of no profiles.
"""

from __future__ import annotations

from typing import Any

from archive.errors import ArchiveError

# TorchServe's own, which stand at the top of a configuration, and those of the section `opserve:`.
SERVER_KEYS = ("minWorkers", "maxWorkers", "batchSize", "maxBatchDelay")
OUR_KEYS = ("threads",)


def choose_profile(document: dict[str, Any], wanted: str | None, source: str) -> dict[str, Any]:
    """A configuration with the settings of one profile, and without the others.

    Args:
        document: a parsed `model-config.yaml`; it is left as it is.
        wanted: the profile's name, or `None` for the default one.
        source: the configuration's name in messages.

    Returns:
        The document without `profiles`; `opserve.profile` is the chosen one's name, if the model has any.

    Raises:
        ArchiveError: there is no such profile, or the profiles are not what they should be.
    """
    section = document.get("opserve")
    if not isinstance(section, dict):
        return document
    profiles = _profiles(section, source)
    name = wanted if wanted is not None else section.get("profile")
    if not profiles:
        if name is not None:
            raise ArchiveError(f"{source}: has no profiles, so not '{name}' either; leave PROFILE out, or add it")
        return document
    if name is None:
        raise ArchiveError(f"{source}: opserve.profile names the default of its profiles: {', '.join(profiles)}")
    if name not in profiles:
        raise ArchiveError(f"{source}: has no profile '{name}'; there are: {', '.join(profiles)}")
    chosen = profiles[name]
    rest = {key: value for key, value in section.items() if key != "profiles"}
    ours = {key: chosen[key] for key in OUR_KEYS if key in chosen}
    servers = {key: chosen[key] for key in SERVER_KEYS if key in chosen}
    return document | servers | {"opserve": rest | {"profile": name} | ours}


def _profiles(section: dict[str, Any], source: str) -> dict[str, dict[str, int]]:
    profiles = section.get("profiles", {})
    if not isinstance(profiles, dict) or not all(isinstance(settings, dict) for settings in profiles.values()):
        raise ArchiveError(f"{source}: opserve.profiles: expected a mapping of names to settings, got {profiles!r}")
    known = (*SERVER_KEYS, *OUR_KEYS)
    for name, settings in profiles.items():
        unknown = sorted(str(key) for key in settings.keys() - set(known))
        if unknown:
            raise ArchiveError(
                f"{source}: opserve.profiles.{name}: unknown key {', '.join(unknown)}; known are {', '.join(known)}"
            )
        for key in SERVER_KEYS:
            if key in settings and (type(settings[key]) is not int or settings[key] < 1):
                raise ArchiveError(
                    f"{source}: opserve.profiles.{name}.{key}: expected a whole number of 1 or more, "
                    f"got {settings[key]!r}"
                )
    return profiles
