"""What is public is documented."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import click
import pytest

import flask_taskqueue
from flask_taskqueue import Settings
from flask_taskqueue.cli import taskqueue
from flask_taskqueue.core.delivery_headers import delivery_headers
from flask_taskqueue.core.record import Record

ROOT = Path(__file__).parents[1]
DOCS = "\n".join(path.read_text(encoding="utf-8") for path in [*ROOT.glob("docs/*.md"), ROOT / "README.md"])
ERRORS = flask_taskqueue.core.errors.__doc__ or ""


@pytest.mark.parametrize("command", sorted(taskqueue.commands))
def test_every_command_is_documented(command: str) -> None:
    """With each of its options."""
    assert f"flask taskqueue {command}" in DOCS
    for option in taskqueue.commands[command].params:
        if isinstance(option, click.Option):
            assert option.opts[0] in DOCS


@pytest.mark.parametrize("name", sorted(flask_taskqueue.__all__))
def test_every_public_name_is_documented(name: str) -> None:
    """In the pages or, for errors, in the drawing of their tree, which the pages show."""
    assert re.search(rf"\b{name}\b", DOCS + ERRORS) or name in ("QueueSettings", "__version__", "Settings")


def test_every_header_is_documented() -> None:
    """Those of a first attempt and those of a retry."""
    record = Record(*[0 if field in ("eta", "executions") else 2 if field == "attempts" else None for field in Record._fields])
    for header in delivery_headers(record):
        assert f"`{header}`" in DOCS


def test_every_setting_is_in_the_generated_table() -> None:
    """The table is made from where the settings are declared."""
    conf = ROOT / "docs/conf.py"
    assert "fields(Settings)" in conf.read_text(encoding="utf-8")
    assert len(fields(Settings)) > 20


def test_the_readmes_application_is_short() -> None:
    """Twenty lines at most, and it is what a stranger copies."""
    example = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert example is not None
    compile(example[1], "README.md", "exec")
    assert len([line for line in example[1].splitlines() if line.strip()]) <= 20
