"""What each task does: a note of its number and the time; directly, or from a request to a
Flask application.
"""

from __future__ import annotations

import os
import struct
import time
from functools import cache

POSTGRESQL = f"postgresql://postgres@127.0.0.1:{os.environ.get('BENCH_PGPORT', '5432')}/bench_peers"
REDIS = f"redis://127.0.0.1:{os.environ.get('BENCH_REDIS_PORT', '6379')}/9"
RABBITMQ = f"amqp://guest:guest@127.0.0.1:{os.environ.get('BENCH_MQPORT', '5672')}//"


@cache
def _notes() -> int:
    return os.open(os.environ["BENCH_NOTES"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def note(number: int) -> None:
    """16 bytes at the end of a file."""
    os.write(_notes(), struct.pack("<qq", number, time.monotonic_ns()))


@cache
def _application():  # type: ignore[no-untyped-def]
    from flask import Flask, request
    from werkzeug.test import EnvironBuilder

    app = Flask(__name__)
    app.config["SECRET_KEY"] = (
        # with one Flask looks for a session; ours has one, as most applications
        "a secret for the benchmark"
    )

    @app.post("/worker")
    def worker() -> tuple[str, int]:
        note(int(request.form["number"]))
        return "", 204

    return app, EnvironBuilder(path="/worker", method="POST", data={"number": "0"}).get_environ()


def perform(number: int) -> None:
    """A task: the note alone, or, with BENCH_WORK=request, a whole request in process, by the
    shortest way there is.
    """
    if os.environ.get("BENCH_WORK") != "request":
        note(number)
        return
    import io

    from werkzeug.test import run_wsgi_app

    app, template = _application()
    body = b"number=%d" % number
    chunks, status, _ = run_wsgi_app(
        app, {**template, "wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body))}
    )
    b"".join(chunks)
    assert status.startswith("204")
