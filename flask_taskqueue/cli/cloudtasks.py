"""``flask taskqueue cloudtasks``."""

from __future__ import annotations

import signal
import threading

import click
from flask.cli import AppGroup, with_appcontext

from ..cloudtasks import check_installed
from ..engine.cloud_tasks import CloudTasksEngine, UnavailableError
from ..process.signal_handlers import not_ignored
from .options import current_runtime
from .output import echo

_GRACE = 5.0


@click.group("cloudtasks", cls=AppGroup, invoke_without_command=True)
@click.option(
    "--grpc",
    "address",
    metavar="HOST:PORT",
    help="Where to listen, such as 127.0.0.1:8123.",
)
@click.pass_context
@with_appcontext
def cloudtasks(context: click.Context, address: str | None) -> None:
    """Answer Cloud Tasks' clients by gRPC, until SIGINT or SIGTERM; or manage it as an engine.

    Without TASKQUEUE_API_TOKEN every program of this machine is answered, and only an address of
    this machine can be listened at. The tasks are attempted by dispatchers, as ever.
    """
    if context.invoked_subcommand is not None:
        return
    if address is None:
        raise click.UsageError("say where to listen: --grpc 127.0.0.1:8123")
    check_installed("flask taskqueue cloudtasks")
    from ..cloudtasks.grpc_server import listen

    server, place = listen(current_runtime(), address)
    stopping = threading.Event()
    for number in (signal.SIGTERM, *not_ignored(signal.SIGINT)):
        signal.signal(number, lambda *_: stopping.set())
    server.start()
    echo(f"Answering Cloud Tasks' clients at {place}.")
    stopping.wait()
    server.stop(_GRACE).wait()


@cloudtasks.command("sync")
@with_appcontext
def sync() -> None:
    """Write the limits of the queues whose engine is Cloud Tasks there, by UpdateQueue.

    They are rate, max_concurrent and the waits of the retry policy. A queue that is missing there
    is created. Nothing is read back.
    """
    runtime = current_runtime()
    queues = [queue for queue in runtime.settings.queues.values() if queue.engine is not None]
    if not queues:
        raise click.ClickException("no queue has the engine 'cloudtasks' (TASKQUEUE_QUEUES)")
    engine = CloudTasksEngine(runtime.settings)
    for queue in queues:
        try:
            engine.update(queue)
        except UnavailableError as error:
            raise click.ClickException(f"queue {queue.name}: {error}") from error
        echo(f"Wrote {engine.path(queue.name)}.")
