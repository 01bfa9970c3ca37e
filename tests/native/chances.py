"""The source of all that is random in a case."""

from __future__ import annotations

import random

# The share of the cases without an error, as far as that lies with those who make them.
SOUND = 0.4


class Chances(random.Random):
    """Random numbers, and whether to make an error: never in some of the cases, so that they reach the end."""

    def __init__(self, seed: str) -> None:
        super().__init__(seed)
        self.sound = self.random() < SOUND

    def errs(self, chance: float) -> bool:
        """Whether to make an error, which so many of the other cases contain."""
        return not self.sound and self.random() < chance
