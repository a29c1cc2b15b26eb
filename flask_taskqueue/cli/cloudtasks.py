"""``flask taskqueue cloudtasks``."""

from __future__ import annotations

import signal
import threading

import click
from flask.cli import with_appcontext

from ..cloudtasks import check_installed
from .options import current_runtime
from .output import echo

_GRACE = 5.0


@click.command("cloudtasks")
@click.option(
    "--grpc",
    "address",
    metavar="HOST:PORT",
    required=True,
    help="Where to listen, such as 127.0.0.1:8123.",
)
@with_appcontext
def cloudtasks(address: str) -> None:
    """Answer Cloud Tasks' clients by gRPC, until SIGINT or SIGTERM.

    Without TASKQUEUE_API_TOKEN every program of this machine is answered, and only an address of
    this machine can be listened at. The tasks are attempted by dispatchers, as ever.
    """
    check_installed("flask taskqueue cloudtasks")
    from ..cloudtasks.grpc_server import listen

    server, place = listen(current_runtime(), address)
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    server.start()
    echo(f"Answering Cloud Tasks' clients at {place}.")
    stopping.wait()
    server.stop(_GRACE).wait()
