"""Whether the web server gives a delivery as long as its deadline."""

from __future__ import annotations

import ast
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from ..core.durations import seconds
from ..core.finding import Finding
from ..runtime import Runtime
from .routes import worker_of

_GUNICORN_DEFAULT = 30.0


def look(runtime: Runtime) -> Iterator[Finding]:
    """What is to be seen of gunicorn, where deliveries go through it."""
    if runtime.settings.transport != "http":
        return
    timeout = _configured()
    if timeout is not None:
        yield from judge_timeout(timeout, longest_deadline(runtime))


def judge_timeout(timeout: float, deadline: float) -> Iterator[Finding]:
    """Whether a worker of gunicorn outlives a deadline; a timeout of 0 is none."""
    if 0 < timeout <= deadline:
        yield Finding(
            "warning",
            f"gunicorn kills a worker after {timeout:g} s, and a task may take {deadline:g} s",
            f"run gunicorn with --timeout {deadline + 30:.0f}, and give a proxy before it as long",
            "troubleshooting#deadline",
        )


def gunicorn_timeout(words: Sequence[str]) -> float | None:
    """The timeout among the arguments of gunicorn.

    >>> gunicorn_timeout(["-w", "2", "--timeout=60"]), gunicorn_timeout(["-t", "5"]), gunicorn_timeout(["-t90"])
    (60.0, 5.0, 90.0)
    """
    found = None
    for word, following in zip(words, [*words[1:], ""], strict=False):
        value = following if word in ("-t", "--timeout") else None
        if word.startswith("--timeout="):
            value = word.partition("=")[2]
        elif word.startswith("-t") and word != "-t":
            value = word[2:]
        with suppress(ValueError):
            found = found if value is None else float(value)
    return found


def longest_deadline(runtime: Runtime) -> float:
    """The longest that a task of this application may take by its settings, its queues and its handlers."""
    app, settings = runtime.app, runtime.settings
    found = [settings.deadline, *(queue.deadline or 0 for queue in settings.queues.values())]
    for rule in app.url_map.iter_rules():
        worker = worker_of(app, rule)
        if worker is not None and worker.route.deadline is not None:
            found.append(seconds(worker.route.deadline, what="deadline"))
    return max(found)


def _configured() -> float | None:
    """The timeout of the gunicorn that serves here, or whose configuration is here; None without any."""
    serving = os.path.basename(sys.argv[0]) == "gunicorn"
    arguments = os.environ.get("GUNICORN_CMD_ARGS")
    file = Path("gunicorn.conf.py")
    if not serving and arguments is None and not file.is_file():
        return None
    of_line = gunicorn_timeout(sys.argv[1:]) if serving else None
    of_environment = None if arguments is None else gunicorn_timeout(shlex.split(arguments))
    for timeout in (of_line, of_environment, _of_file(file)):
        if timeout is not None:
            return timeout
    return _GUNICORN_DEFAULT


def _of_file(path: Path) -> float | None:
    """A timeout that a configuration file assigns as a plain number; the file is read, not run."""
    with suppress(OSError, SyntaxError, ValueError):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            named = isinstance(node, ast.Assign) and any(isinstance(one, ast.Name) and one.id == "timeout" for one in node.targets)
            if named and isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
                return float(str(node.value.value))
    return None
