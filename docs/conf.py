"""Sphinx configuration."""

from __future__ import annotations

from dataclasses import MISSING, fields
from pathlib import Path

from flask_taskqueue import Settings, __version__

project = "Flask-TaskQueue"
author = "The Flask-TaskQueue authors"
release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc"]
html_theme = "furo"
exclude_patterns = ["_build", "generated/*"]
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
myst_heading_anchors = 3


def settings_table() -> str:
    """The table of configuration keys, from where they are declared."""
    rows = ["| Key | Default | Meaning |", "|---|---|---|"]
    for one in fields(Settings):
        default = one.default_factory() if one.default_factory is not MISSING else one.default
        shown = default if isinstance(default, int | float | str | bool | None) else type(default).__name__
        if one.name == "queues":
            shown = "only `default`"
        elif one.name == "retry":
            shown = "App Engine's, 30 days"
        elif default == ():
            shown = "none"
        rows.append(f"| `TASKQUEUE_{one.name.upper()}` | {shown} | {one.metadata['doc'].replace('``', '`')} |")
    return "\n".join(rows) + "\n"


generated = Path(__file__).parent / "generated"
generated.mkdir(exist_ok=True)
(generated / "settings.md").write_text(settings_table(), encoding="utf-8")
