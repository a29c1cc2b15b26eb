"""Fixtures for code of App Engine."""

from __future__ import annotations

import sys

import pytest

from flask_taskqueue.appengine import deferred


@pytest.fixture(autouse=True)
def deferring(monkeypatch: pytest.MonkeyPatch) -> None:
    """The applications of these tests import deferred."""
    monkeypatch.setitem(sys.modules, deferred.__name__, deferred)
