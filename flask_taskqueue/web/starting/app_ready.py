"""The moment at which an app under construction is complete.

That is when the code that makes it has returned.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from types import FrameType

from flask import Flask

from ...process.threads import start_thread

_LOOK_AGAIN = 0.02


def when_ready(app: Flask, then: Callable[[], object]) -> None:
    """Call ``then`` in another thread as soon as the code that makes the app has returned.

    Call this while the app is being set up. The code that makes it is the outermost caller that is
    a function of the app's package, has the app in a variable or in an attribute of one, or is a
    module being imported. Where it cannot be known when that code has returned, because the
    program's own file makes the app, or the function that serves it does, ``then`` is called too
    late or never.
    """
    maker = _maker(sys._getframe(1), app)
    if maker is not None:
        start_thread(_wait, threading.get_ident(), maker, then, name="taskqueue-whole")


def is_being_imported() -> bool:
    """Return whether the caller's thread is importing a module; no server serves requests there.

    A module may send its app a request with a test client, to fill a cache say, and gunicorn's
    master or a command may be what imports it.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        spec = frame.f_globals.get("__spec__")
        if frame.f_code.co_name == "<module>" and getattr(spec, "_initializing", False):
            return True
        frame = frame.f_back
    return False


def is_made_to_fork() -> bool:
    """Return whether this process makes the app only to fork its workers.

    So do uWSGI without lazy-apps and gunicorn with preload.
    """
    uwsgi = sys.modules.get("uwsgi")
    if uwsgi is not None and hasattr(uwsgi, "worker_id"):
        return bool(uwsgi.worker_id() == 0)
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_globals.get("__name__") == "gunicorn.arbiter":
            return frame.f_code.co_name == "setup"
        frame = frame.f_back
    return False


def has_no_threads() -> bool:
    """Return whether this is uWSGI, and says that threads get no turn between its requests.

    That is its default before 2.0.27.
    """
    return getattr(sys.modules.get("uwsgi"), "has_threads", 1) == 0


def _maker(frame: FrameType | None, app: Flask) -> FrameType | None:
    found = None
    while frame is not None:
        if _may_go_on(frame, app):
            found = frame
        frame = frame.f_back
    return found


def _may_go_on(frame: FrameType, app: Flask) -> bool:
    """Return whether a frame may still use the app after its current call returns."""
    module = str(frame.f_globals.get("__name__"))
    if frame.f_code.co_name == "<module>":
        return module != "__main__"
    if module.partition(".")[0] == app.import_name.partition(".")[0]:
        return True
    return any(
        value is app or any(held is app for held in _attributes(value))
        for value in list(frame.f_locals.values())
    )


def _attributes(value: object) -> list[object]:
    try:
        held = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return []
    return list(held.values()) if isinstance(held, dict) else []


def _wait(thread: int, maker: FrameType, then: Callable[[], object]) -> None:
    while _runs(thread, maker):
        time.sleep(_LOOK_AGAIN)
    del maker
    then()


def _runs(thread: int, maker: FrameType) -> bool:
    frame = sys._current_frames().get(thread)
    while frame is not None:
        if frame is maker:
            return True
        frame = frame.f_back
    return False
