"""All scenarios, in the order of the table."""

from __future__ import annotations

from .killed_dispatchers import KILLED_DISPATCHERS
from .killed_enqueuers import KILLED_ENQUEUERS
from .scenario import Scenario

SCENARIOS: tuple[Scenario, ...] = (KILLED_DISPATCHERS, KILLED_ENQUEUERS)
