"""Other hosts that tasks go to."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from flask import Flask, Response, request

from tests.apps import served


@dataclass
class Receiver:
    """A host that notes what it is given; ``answer`` says how it replies."""

    url: str = ""
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    answer: Callable[[], Response] = field(default=lambda: Response(status=204))
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def host(self) -> str:
        """Its name and port."""
        return self.url.removeprefix("http://")

    @property
    def latest(self) -> tuple[dict[str, str], bytes]:
        """Headers and body of the latest delivery."""
        return self.got[-1]

    def take(self) -> Response:
        """Note the request, and answer it."""
        with self._lock:
            self.got.append(
                ({name.lower(): value for name, value in request.headers}, request.get_data())
            )
        return self.answer()


@contextmanager
def receiver(status: int = 204, **headers: str) -> Iterator[Receiver]:
    """A host on a port of its own, whose replies have a status and headers
    (``retry_after="1"``).
    """
    found = Receiver(
        answer=lambda: Response(
            status=status,
            headers={name.replace("_", "-"): value for name, value in headers.items()},
        )
    )
    app = Flask("receiver")
    app.add_url_rule("/<path:_>", "take", lambda _: found.take(), methods=["GET", "POST"])
    with served(app) as url:
        found.url = url
        yield found
