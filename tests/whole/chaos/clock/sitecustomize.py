"""Gives a Python process another clock: Python imports a module of this name, when it is on its
path, before anything else.

The file CHAOS_CLOCK holds by how many seconds it is off; it may be changed at any time. The
monotonic clock goes on, as it does when somebody sets the machine's clock.
"""

from __future__ import annotations

import datetime as _datetime
import os
import time
from pathlib import Path
from typing import Any

_file = Path(os.environ["CHAOS_CLOCK"])
_time, _time_ns = time.time, time.time_ns


def _off() -> float:
    return float(_file.read_text() or 0)


class _Datetime(_datetime.datetime):
    @classmethod
    def now(cls, tz: Any = None) -> Any:
        return _datetime.datetime.fromtimestamp(time.time(), tz)


time.time = lambda: _time() + _off()
time.time_ns = lambda: _time_ns() + int(_off() * 1e9)
_datetime.datetime = _Datetime  # type: ignore[misc]
