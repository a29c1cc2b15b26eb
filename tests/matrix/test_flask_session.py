"""Flask-Session: sessions are rows, and nobody would send the cookie of a delivery's again."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from flask import session

from flask_taskqueue import State
from tests.apps import bench, served
from tests.databases import TestDatabase
from tests.matrix.packages import package

flask_session = package("flask_session")


@pytest.mark.parametrize("transport", ["wsgi", "http"])
def test_a_delivery_leaves_no_session(database: TestDatabase, transport: str) -> None:
    """Though a hook or the handler writes to it, as CSRF protections do; a page leaves one."""
    config: dict[str, Any] = {"SESSION_TYPE": "sqlalchemy", "SESSION_PERMANENT": True}
    with bench(database.url, own_models=True, **config) as one, served(one.app) as url:
        one.app.config["SESSION_SQLALCHEMY"] = one.db
        flask_session.Session(one.app)
        one.app.before_request(lambda: session.update(seen=True))
        one.app.add_url_rule("/page", view_func=lambda: "page")

        @one.tasks.worker("/w", transactional=True)
        def handler() -> None:
            session["written"] = session["seen"]

        def sessions() -> int:
            one.db.session.rollback()
            return int(one.db.session.scalar(sa.text("SELECT count(*) FROM sessions")))

        added = [handler.add(), handler.add()]
        options: Any = {"transport": "http", "base_url": url} if transport == "http" else {}
        one.runtime.drain(**options)
        assert {one.tasks.get(task.id).state for task in added} == {State.SUCCEEDED}
        assert sessions() == 0
        assert one.app.test_client().get("/page").status_code == 200
        assert sessions() == 1
