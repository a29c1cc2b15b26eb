"""Quart: its apps look much like Flask's and run on asyncio."""

from __future__ import annotations

import pytest

from flask_taskqueue import ConfigurationError, TaskQueue
from tests.matrix.packages import package

quart = package("quart")


def test_a_quart_app_is_refused_by_name() -> None:
    """Given at once and later."""
    refusal = r"needs a Flask application, and this is a quart\.app\.Quart"
    with pytest.raises(ConfigurationError, match=refusal):
        TaskQueue(quart.Quart(__name__))
    with pytest.raises(ConfigurationError, match=refusal):
        TaskQueue().init_app(quart.Quart(__name__))
