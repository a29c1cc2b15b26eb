"""Sphinx configuration."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import generate  # noqa: E402

from flask_taskqueue import __version__  # noqa: E402

project = "Flask-TaskQueue"
author = "The Flask-TaskQueue authors"
release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc"]
html_theme = "furo"
html_title = f"Flask-TaskQueue {release}"
default_role = "py:obj"
exclude_patterns = ["_build", "generated/*"]
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
myst_heading_anchors = 3

generate.write(HERE / "generated")
