"""The dispatcher of a process that serves requests: when it starts and stops."""

from __future__ import annotations

import atexit
import logging
import os
import signal
import sys
import threading
import time
import weakref
from contextlib import suppress
from typing import Any

import click
from flask import Flask, request
from flask.cli import ScriptInfo
from flask.helpers import get_debug_flag
from flask.signals import request_started
from werkzeug.serving import is_running_from_reloader

from ..core.delivery import ENVIRON_KEY
from ..core.errors import TaskQueueError
from ..core.starting import Situation, Start, when_to_start
from ..runtime import Runtime
from .first_look import check_application

logger = logging.getLogger("flask_taskqueue")

_RELOAD_GRACE = 2.0
_LOADING_LIMIT = 300.0


def arrange_start(app: Flask, runtime: Runtime) -> None:
    """Have the dispatcher start when, and if, this process serves requests."""
    context = click.get_current_context(silent=True)
    start = when_to_start(_situation(runtime.settings.dispatcher, app.testing, context))
    if start is Start.FIRST_REQUEST:
        start_at_first_request(app, runtime)
    elif start is Start.WHEN_LOADED and context is not None:
        _stop_on_sigterm()
        waiting = threading.Thread(
            target=_start_when_loaded, args=(context.find_object(ScriptInfo), app, runtime, _address(context)), daemon=True
        )
        waiting.start()


def start_at_first_request(app: Flask, runtime: Runtime) -> None:
    """Start with the first request of each process, so after any fork."""
    keep_alive = weakref.ref(runtime)
    started_in: list[int] = []

    def begin(_app: Flask, **_: object) -> None:
        if os.getpid() in started_in or ENVIRON_KEY in request.environ:  # a delivery is nobody's request
            return
        started_in.append(os.getpid())
        live = keep_alive()
        if live is not None:
            _warn_without_threads()
            _start(live, None)

    request_started.connect(begin, app, weak=False)


def _start(runtime: Runtime, base_url: str | None) -> None:
    try:
        check_application(runtime.app)
        scheduler = runtime.start(runtime.settings.base_url or base_url)
    except TaskQueueError as error:
        logger.error("the dispatcher does not start: %s", error)
        return
    settings = runtime.settings
    logger.info(
        "dispatcher %s started (pid %d, transport %s, %d slots, poll %g s, %s)",
        scheduler.dispatcher.id,
        os.getpid(),
        settings.transport,
        settings.concurrency,
        settings.poll_interval,
        runtime.store.database.engine.url.render_as_string(hide_password=True),
    )
    grace = min(settings.grace_period, _RELOAD_GRACE) if is_running_from_reloader() else settings.grace_period
    atexit.register(_stop, weakref.ref(runtime), os.getpid(), grace)


def _stop(runtime: weakref.ref[Runtime], pid: int, grace: float) -> None:
    live = runtime()
    if live is not None and os.getpid() == pid:
        with suppress(KeyboardInterrupt):
            live.stop(grace)


def _start_when_loaded(info: ScriptInfo | None, app: Flask, runtime: Runtime, base_url: str | None) -> None:
    """Under ``flask run``: wait until the application is loaded whole, for its factory may go on after init_app."""
    limit = time.monotonic() + _LOADING_LIMIT
    while info is not None and getattr(info, "_loaded_app", app) is None and time.monotonic() < limit:
        time.sleep(0.02)
    _start(runtime, base_url)


def _situation(setting: str, testing: bool, context: click.Context | None) -> Situation:
    commands: list[str] = []
    reloads = False
    if context is not None:
        reloads = _reloads(context)
    while context is not None:
        commands.insert(0, context.info_name or "")
        context = context.parent
    return Situation(setting=setting, testing=testing, commands=tuple(commands), reloads=reloads, in_reloader=is_running_from_reloader())


def _reloads(context: click.Context) -> bool:
    asked = context.params.get("reload")
    return get_debug_flag() if asked is None else bool(asked)


def _address(context: click.Context) -> str | None:
    """The base URL that ``flask run`` serves."""
    params: dict[str, Any] = context.params
    host, port = params.get("host"), params.get("port")
    if not host or not port or "/" in host:
        return None
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"{'https' if params.get('cert') else 'http'}://{host}:{port}"


def _stop_on_sigterm() -> None:
    """``flask run`` dies of SIGTERM at once, without its exit handlers; let it end like any program."""
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))


def _warn_without_threads() -> None:
    uwsgi = sys.modules.get("uwsgi")
    if uwsgi is not None and not getattr(uwsgi, "opt", {}).get("enable-threads"):
        logger.warning("uWSGI runs without threads, so the dispatcher cannot work: set enable-threads = true, or run flask taskqueue run")
