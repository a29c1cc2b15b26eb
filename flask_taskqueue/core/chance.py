"""Chance: from the system, so that an application that seeds `random` neither decides delays nor notices them."""

from __future__ import annotations

import random

chance = random.SystemRandom()
