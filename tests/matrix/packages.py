"""The packages of the matrix."""

from __future__ import annotations

import importlib
import os
from typing import Any

import pytest


def package(name: str) -> Any:
    """A module of another package. Where it is missing the tests of the calling module are skipped
    by name, or fail if the matrix is required.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        if "matrix" in os.environ.get("TASKQUEUE_TEST_REQUIRE", "").split(","):
            raise
        pytest.skip(f"make matrix has it: {error}", allow_module_level=True)
