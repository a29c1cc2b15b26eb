"""Idle connections, which the server may have closed in the meantime."""

from __future__ import annotations

import time
from typing import Any

import sqlalchemy as sa

_IDLE = 5.0
_USED_AT = "taskqueue_used_at"


def ping_idle(engine: sa.Engine) -> sa.Engine:
    """Ping each connection of an engine before it is used, if it has been idle for some seconds.

    SQLAlchemy's ``pool_pre_ping`` asks every time, which would slow down each turn of a drain.
    """
    module: Any = engine.dialect.loaded_dbapi

    @sa.event.listens_for(engine, "checkin")
    def _note(_connection: Any, record: Any) -> None:
        record.info[_USED_AT] = time.monotonic()

    @sa.event.listens_for(engine, "checkout")
    def _ping(connection: Any, record: Any, _proxy: object) -> None:
        now = time.monotonic()
        if now - record.info.get(_USED_AT, now) < _IDLE:
            return
        try:
            engine.dialect.do_ping(connection)
        except module.Error as error:
            raise sa.exc.DisconnectionError from error

    return engine
