"""The signals that are sent (blinker); logs, metrics and traces subscribe to them.

The sender is the Flask app. A receiver runs in the thread that sends, so keep it short.
"""

from __future__ import annotations

from blinker import NamedSignal, Namespace

_signals = Namespace()

task_added: NamedSignal = _signals.signal(
    "task-added",
    doc="A task was stored; with ``task``. Inside a transaction it may still be rolled back.",
)
task_deleted: NamedSignal = _signals.signal(
    "task-deleted", doc="A task was cancelled, by itself; with ``task``."
)
task_requeued: NamedSignal = _signals.signal(
    "task-requeued", doc="A dead task was scheduled again, by itself; with ``task``."
)
tasks_changed: NamedSignal = _signals.signal(
    "tasks-changed",
    doc="Many tasks were changed; with ``action`` (requeue, run now, delete or forget) and "
    "``changed``, how many.",
)
attempt_started: NamedSignal = _signals.signal(
    "attempt-started", doc="A delivery begins, in the thread that sends it; with ``record``."
)
attempt_finished: NamedSignal = _signals.signal(
    "attempt-finished",
    doc="A delivery ended and is recorded; with ``record``, ``outcome`` and ``duration`` in "
    "seconds.",
)
task_succeeded: NamedSignal = _signals.signal(
    "task-succeeded", doc="A task's attempt got a 2xx; with ``record`` and ``outcome``."
)
task_dead: NamedSignal = _signals.signal(
    "task-dead", doc="A task gave up; with ``record`` and ``outcome``."
)
dispatcher_started: NamedSignal = _signals.signal(
    "dispatcher-started", doc="A dispatcher runs in this process; with ``dispatcher``."
)
dispatcher_stopped: NamedSignal = _signals.signal(
    "dispatcher-stopped", doc="It ended; with ``dispatcher``."
)
queue_added: NamedSignal = _signals.signal(
    "queue-added", doc="A queue was added while the app runs; with ``queue``, its name."
)
queue_changed: NamedSignal = _signals.signal(
    "queue-changed", doc="The settings of an added queue were changed; with ``queue``."
)
queue_deleted: NamedSignal = _signals.signal(
    "queue-deleted",
    doc="An added queue was deleted; with ``queue`` and ``cancelled``, how many of its tasks were.",
)
queue_paused: NamedSignal = _signals.signal(
    "queue-paused",
    doc="A queue was paused, in all processes; with ``queue``, its name, and ``by``.",
)
queue_resumed: NamedSignal = _signals.signal(
    "queue-resumed", doc="A queue was resumed; with ``queue``, its name."
)
schedule_fired: NamedSignal = _signals.signal(
    "schedule-fired",
    doc="A schedule added tasks; with ``schedule``, its name, and ``added``, how many.",
)
