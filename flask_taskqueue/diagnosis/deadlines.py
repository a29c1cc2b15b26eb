"""What a web server and its proxies must do for deliveries: wait, and never repeat one."""

from __future__ import annotations

from collections.abc import Iterator

from ..core.diagnosis.facts import Finding
from ..core.durations import seconds
from ..runtime import Runtime
from ..web.rules import worker_rules


def check(runtime: Runtime) -> Iterator[Finding]:
    """Name the longest deadline where deliveries go over HTTP; nothing shows what servers allow."""
    if runtime.settings.transport == "http":
        deadline = longest_deadline(runtime)
        yield Finding(
            "ok",
            f"a delivery over HTTP may take {deadline:g} s, the longest deadline of this app",
            f"give the web server and any proxy before it a timeout of more than {deadline:g} s, "
            "and keep the proxy from sending requests again (nginx: proxy_next_upstream off)",
            "deadlines#proxies",
        )


def longest_deadline(runtime: Runtime) -> float:
    """Return the longest deadline in seconds, of the settings, the queues and the handlers."""
    app, settings = runtime.app, runtime.settings
    added = runtime.store.read(runtime.store.added_queues.all)
    queues = [*settings.queues.values(), *added]
    deadlines = [settings.deadline, *(queue.deadline or 0 for queue in queues)]
    for _, worker in worker_rules(app):
        if worker.route.deadline is not None:
            deadlines.append(seconds(worker.route.deadline, what="deadline"))
    return max(deadlines)
