"""Sphinx configuration."""

from __future__ import annotations

from flask_taskqueue import __version__

project = "Flask-TaskQueue"
author = project_copyright = "The Flask-TaskQueue authors"
release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc"]
html_theme = "furo"
html_title = f"Flask-TaskQueue {release}"
default_role = "py:obj"
exclude_patterns = ["_build"]
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3
