"""Which of several versions is served by default."""

import random

from scripts.torchserve.model_store import version_key


def test_the_newest_version_is_the_last_one() -> None:
    versions = ["1.0-rc", "1.0", "1.2", "2", "2.0-beta", "2.0", "9.1", "10.0"]
    assert sorted(random.sample(versions, len(versions)), key=version_key) == versions
