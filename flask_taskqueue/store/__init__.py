"""Every SQL statement."""

from __future__ import annotations

from .database import Database
from .leases import Leases, Result
from .store import Store
from .tables import Tables
from .tasks import Filter

__all__ = ["Database", "Filter", "Leases", "Result", "Store", "Tables"]
