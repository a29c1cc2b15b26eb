"""The former place of the pytest plugin, which one release keeps."""

from __future__ import annotations

from pytest_flask_taskqueue import taskqueue

__all__ = ["taskqueue"]
