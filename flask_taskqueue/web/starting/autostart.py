"""When the dispatcher of a process that serves requests starts and stops."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress

import click
import sqlalchemy as sa
from flask import Flask, request
from flask.helpers import get_debug_flag
from flask.signals import request_started
from werkzeug.serving import is_running_from_reloader

from ...core.delivery.delivery import Delivery
from ...core.errors import TaskQueueError, TransientError
from ...process.logs import get_logger
from ...process.stop_signals import guard, is_stopping, prepare
from ...process.threads import NoThreadError, at_exit, start_thread
from ...runtime import Runtime
from ..claimed_request import claimed_delivery
from ..current_task import handling
from ..guard import verified
from .app_checks import check_application
from .app_ready import has_no_threads, is_being_imported, is_made_to_fork, when_ready
from .development_server import ends_with_its_request, on_serving

_logger = get_logger()

_RELOAD_GRACE = 2.0
_START_AGAIN = 1.0
_NEXT_ATTEMPT = 5.0
"""The seconds after which another thread is tried, where none could be started."""
_NOT_LONG = 0.05


def arrange_start(app: Flask, runtime: Runtime) -> None:
    """Start the dispatcher once this process serves requests, if it ever does.

    With ``TASKQUEUE_DISPATCHER`` "on" it starts as soon as the app is complete.
    """
    autostart = _Autostart(runtime)
    _autostarts[app] = autostart
    request_started.connect(autostart.at_request, app, weak=False)
    if runtime.settings.dispatcher == "off":
        return
    prepare()
    on_serving(_at_serving)
    if runtime.settings.dispatcher == "on" and not _is_reloaders_parent():
        autostart.is_in_master = is_made_to_fork()
        if not autostart.is_in_master:
            autostart.start_when_ready(app)


def disable_autostart(app: Flask) -> None:
    """Keep a dispatcher from starting by itself, as this program runs dispatchers itself."""
    _autostarts[app].disable()


class _Autostart:
    """Whether and how the current process runs the dispatcher of one application."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = weakref.ref(runtime)
        self._decided = self._is_disabled = False
        self._deciding = threading.Lock()
        self._not_before = 0.0
        self._base_url: str | None = None
        self._stops_in: int | None = None
        self._setting = runtime.settings.dispatcher
        self.is_in_master = False
        """Whether each forked worker is to start its dispatcher as soon as it is forked."""

    def at_request(self, app: Flask, **_: object) -> None:
        """Start, as a request is being served, or log why not.

        Nothing happens for a delivery, nor for a request that a module makes as it is imported.
        Once this has decided, later requests have nothing left to do, unless no thread could be
        started: then one of them tries again.
        """
        if self._decided or time.monotonic() < self._not_before:
            return
        if (
            isinstance(claimed_delivery(app), Delivery)
            or is_stopping()
            or self._is_asleep(app)
            or is_being_imported()
            or handling.get(None) is not None
            or verified(app, request) is not None
        ):
            return
        why_not = self._why_not()
        if why_not is None:
            self.start()
        else:
            self._decided = True
            _logger.info("this process (pid %d) runs no dispatcher: %s", os.getpid(), why_not)

    def at_serving(self, app: Flask, base_url: str | None) -> None:
        """Start, because requests will be served."""
        if not self._is_asleep(app):
            self.start(base_url)

    def start_when_ready(self, app: Flask) -> None:
        """Start as soon as the app is complete."""
        try:
            when_ready(app, self._start_at_last)
        except NoThreadError as error:
            self._postpone(error)

    def start(self, base_url: str | None = None) -> bool:
        """Start the dispatcher in a thread; harmless if that has begun already.

        The thread keeps the caller from waiting for the database and from appearing in the traces
        of the start. Returns False if there can be no thread now.
        """
        with self._deciding:
            runtime = self._runtime()
            if self._decided or self._is_disabled or self._setting == "off" or runtime is None:
                return True
            self._decided = True
            if has_no_threads():
                _logger.warning(
                    "this process (pid %d) runs no dispatcher: uWSGI runs without threads; set "
                    "enable-threads = true, or run flask taskqueue run",
                    os.getpid(),
                )
                return True
            runtime.is_attended = True
            self._base_url = base_url or self._base_url  # it may have been told in vain before
        prepare()
        try:
            if self._stops_in != os.getpid():
                at_exit(self._end, os.getpid())
                self._stops_in = os.getpid()
            start_thread(self._start, self._base_url, name="taskqueue-start")
        except RuntimeError as error:  # no thread can be started, or no exit handler any more
            self._postpone(error)
            return False
        return True

    def reset(self) -> None:
        """Forget that anything was started.

        This is a forked process, or one that goes on although a signal was to end it.
        """
        self._decided = False
        self._deciding = threading.Lock()

    @property
    def runtime(self) -> Runtime | None:
        """The runtime whose dispatcher this starts; None once the application is gone."""
        return self._runtime()

    def disable(self, grace: float = 0) -> None:
        """Start nothing more in this process; stop what has started, or is just starting."""
        with _start_lock:
            self._decided = self._is_disabled = True
            runtime = self._runtime()
        if runtime is not None:
            runtime.stop(grace)

    def _end(self, pid: int) -> None:
        runtime = self._runtime()
        if runtime is not None and os.getpid() == pid:
            grace = runtime.settings.grace_period
            with suppress(KeyboardInterrupt):
                self.disable(min(grace, _RELOAD_GRACE) if is_running_from_reloader() else grace)

    def _postpone(self, error: RuntimeError) -> None:
        """Leave the start to a later request, because no thread can be started now."""
        _logger.warning(
            "this process (pid %d) runs no dispatcher yet, and tries again with a request: %s",
            os.getpid(),
            error,
        )
        self._not_before = time.monotonic() + _NEXT_ATTEMPT
        self._decided = False
        if (runtime := self._runtime()) is not None:
            runtime.is_attended = False

    def _start_at_last(self) -> None:
        while not self.start():
            time.sleep(_NEXT_ATTEMPT)

    def _is_asleep(self, app: Flask) -> bool:
        """Return whether nothing starts by itself, because the app is under test."""
        return app.testing and self._setting != "on"

    def _why_not(self) -> str | None:
        if self._setting == "off":
            return 'TASKQUEUE_DISPATCHER is "off"'
        if request.environ.get("wsgi.run_once") or ends_with_its_request():
            return "it ends with its request; run flask taskqueue run"
        return None

    def _start(self, base_url: str | None) -> None:
        warned = False
        while (runtime := self._runtime()) is not None:
            try:
                self._start_now(runtime, base_url)
                return
            except (TransientError, NoThreadError) as error:
                if not warned:
                    _logger.warning("the dispatcher cannot start yet: %s", error)
                warned = True
            except (TaskQueueError, sa.exc.SQLAlchemyError) as error:
                _logger.error("the dispatcher does not start: %s", error)
                runtime.is_attended = False
                return
            del runtime
            time.sleep(_START_AGAIN)

    def _start_now(self, runtime: Runtime, base_url: str | None) -> None:
        check_application(runtime.app)
        guard(_stop_gracefully)
        with _start_lock:
            if is_stopping() or self._is_disabled:
                return
            scheduler = runtime.start(base_url=runtime.settings.base_url or base_url)
        settings = runtime.settings
        _logger.info(
            "dispatcher %s started (pid %d, transport %s, %d slots, poll %g s, %s)",
            scheduler.dispatcher.id,
            os.getpid(),
            settings.transport,
            settings.concurrency,
            settings.poll_interval,
            runtime.store.database.engine.url.render_as_string(hide_password=True),
        )


def _at_serving(app: Flask, base_url: str | None) -> None:
    autostart = _autostarts.get(app)
    if autostart is not None:
        autostart.at_serving(app, base_url)


def _stop_gracefully(is_hurried: Callable[[], bool]) -> None:
    """Stop all dispatchers, because a signal has come that ends the process.

    Running tasks may end within the grace period; the rest are given back.
    """
    with _start_lock:  # so that a dispatcher that is just starting is stopped too
        runtimes = [autostart.runtime for autostart in list(_autostarts.values())]
    running = [
        runtime for runtime in runtimes if runtime is not None and runtime.scheduler is not None
    ]
    began = time.monotonic()
    for runtime in running:
        runtime.retire()
    for runtime in running:
        while not (
            runtime.wait_idle(_NOT_LONG)
            or is_hurried()
            or time.monotonic() > began + runtime.settings.grace_period
        ):
            continue
    for runtime in running:
        runtime.stop(0)
    for autostart in list(_autostarts.values()):
        autostart.reset()


def _is_reloaders_parent() -> bool:
    """Return whether this is ``flask run``'s process that only watches files."""
    if is_running_from_reloader():
        return False
    context = click.get_current_context(silent=True)
    if context is None or "reload" not in context.params:
        return False
    asked = context.params["reload"]
    return get_debug_flag() if asked is None else bool(asked)


def _after_fork() -> None:
    global _start_lock
    _start_lock = threading.Lock()
    for autostart in list(_autostarts.values()):
        autostart.reset()
        if autostart.is_in_master:
            autostart.is_in_master = False
            autostart.start()


_autostarts: weakref.WeakKeyDictionary[Flask, _Autostart] = weakref.WeakKeyDictionary()
_start_lock = threading.Lock()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
