"""Whether the web server gives a delivery as long as its deadline."""

from __future__ import annotations

import ast
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from ..core.diagnosis.finding import Finding
from ..core.durations import seconds
from ..runtime import Runtime
from ..web.rules import worker_rules

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
            f"run gunicorn with --timeout {deadline + 30:.0f}, or with --threads, and give a "
            "proxy before it as long",
            "troubleshooting#deadline",
        )


def gunicorn_option(words: Sequence[str], long: str, short: str | None = None) -> str | None:
    """What the arguments of gunicorn give an option, the last time they do.

    >>> gunicorn_option(["-w", "2", "--timeout=60"], "--timeout", "-t")
    '60'
    """
    found = None
    for word, following in zip(words, [*words[1:], ""], strict=False):
        if word in (long, short):
            found = following
        elif word.startswith(f"{long}="):
            found = word.partition("=")[2]
        elif short is not None and word.startswith(short) and not word.startswith("--"):
            found = word[len(short) :]
    return found


def longest_deadline(runtime: Runtime) -> float:
    """The longest that a task of this application may take by its settings, its queues and its
    handlers.
    """
    app, settings = runtime.app, runtime.settings
    found = [settings.deadline, *(queue.deadline or 0 for queue in settings.queues.values())]
    for _, worker in worker_rules(app):
        if worker.route.deadline is not None:
            found.append(seconds(worker.route.deadline, what="deadline"))
    return max(found)


def _configured() -> float | None:
    """After how many seconds the gunicorn that serves here, or whose configuration is here, kills
    what runs; None if it does not.

    None also if that is not to be seen. Only its sync workers cannot tell that they are alive while
    they handle a request: of others its documentation says that the timeout "is not tied to the
    length of time required to handle a single request".
    """
    serving = os.path.basename(sys.argv[0]) == "gunicorn"
    arguments = os.environ.get("GUNICORN_CMD_ARGS")
    file = Path("gunicorn.conf.py")
    if not serving and arguments is None and not file.is_file():
        return None
    lines = [sys.argv[1:] if serving else [], shlex.split(arguments or "")]
    assigned = _assigned(file)

    def setting(name: str, long: str, short: str | None = None) -> str | None:
        given = [*(gunicorn_option(words, long, short) for words in lines), assigned.get(name)]
        return next((one for one in given if one is not None), None)

    is_threaded = (setting("threads", "--threads") or "1") != "1"  # gunicorn makes it gthread then
    if is_threaded or (setting("worker_class", "--worker-class", "-k") or "sync").rpartition(".")[
        2
    ] not in ("sync", "SyncWorker"):
        return None
    timeout = setting("timeout", "--timeout", "-t")
    with suppress(ValueError):
        return _GUNICORN_DEFAULT if timeout is None else float(timeout)
    return None


def _assigned(path: Path) -> dict[str, str]:
    """What a configuration file assigns to names as plain values; the file is read, not run.
    What is computed is unknown: "?".
    """
    found: dict[str, str] = {}
    with suppress(OSError, SyntaxError, ValueError):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign):
                value = str(node.value.value) if isinstance(node.value, ast.Constant) else "?"
                found |= {one.id: value for one in node.targets if isinstance(one, ast.Name)}
    return found
