"""What a terminal is sent: nothing that it obeys, whoever wrote it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_taskqueue.cli.output import visible
from tests.cli.conftest import Console

OBEYED = "\x1b]0;owned\x07\x1b[31mRED \x9b31m \u202eevil \u2066 \x7f \U000e0041 \rover\nnext"


@given(st.text())
def test_what_is_visible_is_printable_and_the_same_json(text: str) -> None:
    """Control, formatting and bidirectional characters are escaped as JSON escapes them."""
    assert all(character.isprintable() or character in "\n\t" for character in visible(text))
    assert json.loads(visible(json.dumps(text, ensure_ascii=False))) == text
    plain = "".join(character for character in text if character.isprintable())
    assert visible(plain) == plain


@pytest.mark.parametrize("style", [[], ["--json"]])
def test_no_command_prints_what_a_terminal_obeys(console: Console, style: list[str]) -> None:
    """Of bodies, errors, and the names of those who paused; lines of tables stay whole."""
    good = console.bench.tasks.add("/work", payload=OBEYED.encode(), countdown=900)
    bad = console.add("bad", name="n")
    console.bench.tasks.drain()
    console.bench.tasks.queue("mail").pause(by=OBEYED)
    console.bench.tasks.queue("default").pause(by=OBEYED)
    for words in (
        ["show", good.id],
        ["show", bad.id, "--attempts"],
        ["why", good.id],
        ["queues"],
        ["list"],
        ["doctor"],
        ["health"],
    ):
        result = console.run(*words, *style)
        shown = result.output
        assert all(character.isprintable() or character in "\n\t" for character in shown), words
        if style:
            assert json.loads(result.stdout), words
    assert "\\u001b]0;owned" in console.run("show", good.id).output
    assert "\nnext" not in console.run("queues").output


def test_what_an_encoding_lacks_is_escaped(console: Console) -> None:
    """As on Windows, where output that goes to a file or a pipe is in the encoding of the system.

    JSON stays the same document.
    """
    one = console.bench.tasks.add("/work", payload="☃ 😀")
    runner = console.bench.app.test_cli_runner(charset="cp1252")
    for words in (["doctor"], ["list"], ["show", one.id], ["add", "/☃"]):
        result = runner.invoke(args=["taskqueue", *words])
        assert result.exception is None or isinstance(result.exception, SystemExit), words
    shown = runner.invoke(args=["taskqueue", "show", one.id, "--json"])
    assert "☃ 😀" in json.loads(shown.stdout_bytes)["request"].values()
    assert b"\\u2713" in runner.invoke(args=["taskqueue", "doctor"]).stdout_bytes


def test_an_error_is_visible_too(console: Console) -> None:
    """A sentence that names what was typed."""
    result = console.run("add", "/work\x9b\u202e")
    assert result.exit_code != 0
    assert "\x9b" not in result.output
    assert "\u202e" not in result.output


@pytest.mark.parametrize("option", ["--json", "--attempts", "--utc"])
def test_curl_is_printed_by_itself(console: Console, option: str) -> None:
    """An option that it would leave out is refused."""
    task = console.add()
    assert console.run("show", task.id, "--curl").stdout.startswith("curl ")
    refused = console.run("show", task.id, "--curl", option)
    assert (refused.exit_code, "prints a command" in refused.output) == (2, True)
