"""What ``--help`` shows."""

from __future__ import annotations

import click

from flask_taskqueue.cli import taskqueue


def test_each_command_is_listed_with_whole_words() -> None:
    """In a terminal of 80 columns no line is cut or wrapped, and no command is left out."""
    with click.Context(taskqueue, info_name="flask taskqueue", terminal_width=80) as context:
        lines = taskqueue.get_help(context).splitlines()
    shown = [name for name, command in taskqueue.commands.items() if not command.hidden]
    listed = {line.split()[0]: line for line in lines if line.startswith("  ") and line.split()}
    assert set(shown) <= set(listed)
    assert all(len(line) <= 80 and not line.endswith("...") for line in listed.values())
    assert all(len(listed[name].split()) > 1 for name in shown)
