"""Texts that are scripts where they are not escaped, in every field that a page shows."""

from __future__ import annotations

import json

import sqlalchemy as sa

from flask_taskqueue.core.names import task_id
from flask_taskqueue.store import Store

MARK = "xss_ran"
_RUN = f"window.{MARK}=1"
PAYLOADS = (
    f"<script>{_RUN}</script>",
    f'"><script>{_RUN}</script>',
    f"'><script>{_RUN}</script>",
    f"</script><script>{_RUN}</script>",
    f"</title><script>{_RUN}</script>",
    f"</textarea><script>{_RUN}</script>",
    f"</pre><script>{_RUN}</script>",
    f"</code><script>{_RUN}</script>",
    f"</style><script>{_RUN}</script>",
    f"--><script>{_RUN}</script>",
    f"<img src=x onerror={_RUN}>",
    f'"><img src=x onerror={_RUN}>',
    f"'><img src=x onerror={_RUN}>",
    f"<svg onload={_RUN}>",
    f"<svg><script>{_RUN}</script></svg>",
    f"<svg><animate onbegin={_RUN} attributeName=x dur=1s>",
    f"<body onload={_RUN}>",
    f"<iframe srcdoc='<script>parent.{MARK}=1</script>'></iframe>",
    f"<iframe src=javascript:parent.{MARK}=1></iframe>",
    f"<details open ontoggle={_RUN}>",
    f"<input autofocus onfocus={_RUN}>",
    f"<select autofocus onfocus={_RUN}>",
    f"<video><source onerror={_RUN}></video>",
    f"<audio src=x onerror={_RUN}>",
    f"<marquee onstart={_RUN}>",
    f"<object data=javascript:{_RUN}></object>",
    f"<embed src=javascript:{_RUN}>",
    f"<math><mtext><script>{_RUN}</script></mtext></math>",
    f"<template><script>{_RUN}</script></template>",
    f"<base href=javascript:{_RUN}//>",
    f"<link rel=stylesheet href=javascript:{_RUN}>",
    f"<meta http-equiv=refresh content='0;url=javascript:{_RUN}'>",
    f"<form action=javascript:{_RUN}><button autofocus>",
    f'" autofocus onfocus={_RUN} x="',
    f"' autofocus onfocus={_RUN} x='",
    f"javascript:{_RUN}",
    f"{{{{ {_RUN} }}}}",
    f"{{% raw %}}<script>{_RUN}</script>{{% endraw %}}",
    f"<scr<script>ipt>{_RUN}</scr</script>ipt>",
    f"\u2028<script>{_RUN}</script>\x00<script>{_RUN}</script>".replace("\x00", "\x0b"),
)


def poison(store: Store) -> list[str]:
    """Put the payloads into the fields of every table, past every check; the ids of the tasks."""
    tables = store.database.tables
    with store.reading() as connection:
        model = store.tasks.get_all(
            connection, list(connection.scalars(sa.select(tables.task.c.id).limit(1)))
        )[0]._asdict()
    ids = []
    with store.database.engine.begin() as connection:
        for number, text in enumerate(PAYLOADS):
            ids.append(task_id())
            body = {
                "body": text.encode(),
                "headers": json.dumps({"X-Header": text, text: "x", "Content-Type": text}),
            }
            keys = {
                "unique_key": f"{number}{text}",
                "lock_key": f"s:{text}",
                "batch_id": text[:26],
                "schedule": text[:100],
                "held_by": text[:32],
            }
            ended = {
                "state": "dead",
                "due_at": None,
                "finished_at": model["created_at"],
                "attempts": 1,
            }
            said = {
                "last_error": text,
                "last_reason": "failure",
                "last_status": None,
                "target": text,
            }
            named = {
                "id": ids[-1],
                "name": text,
                "url": text,
                "queue": text[:100],
                "method": "POST",
                "retry": json.dumps({text: text}),
            }
            connection.execute(
                sa.insert(tables.task).values({**model, **body, **keys, **ended, **said, **named})
            )
            attempt = {
                "task_id": ids[-1],
                "number": 1,
                "lease_id": "a",
                "started_at": 1,
                "finished_at": 2 + number,
                "held_by": text[:32],
            }
            reply = {
                "reason": "failure",
                "status": None,
                "error": text,
                "reply_headers": json.dumps({text: text}),
                "reply_body": text.encode(),
            }
            connection.execute(sa.insert(tables.attempt).values({**attempt, **reply}))
            connection.execute(
                sa.insert(tables.queue).values(
                    name=text[:100], paused_at=1, paused_by=text[:100], tokens=0, filled_at=0
                )
            )
            schedule = {
                "name": text[:100],
                "text": text,
                "timezone": text[:64],
                "task": "[]",
                "misfire": "skip",
                "overlap": "skip",
            }
            told = {
                "description": text,
                "last_error": text,
                "paused_at": 1,
                "paused_by": text[:100],
            }
            connection.execute(sa.insert(tables.schedule).values({**schedule, **told}))
            audit = {
                "id": ids[-1],
                "at": 1,
                "who": text[:100],
                "address": text[:64],
                "action": text[:40],
                "subject": text,
                "changed": 1,
            }
            connection.execute(sa.insert(tables.audit).values(audit))
            bulk = {
                "id": ids[-1],
                "created_at": 1,
                "created_by": text[:100],
                "action": text[:20],
                "kind": "all",
                "wanted": "{}",
                "told": text,
            }
            connection.execute(
                sa.insert(tables.bulk).values(
                    {**bulk, "looked_at": 0, "changed": 0, "finished_at": 1}
                )
            )
    return ids
