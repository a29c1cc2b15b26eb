"""The commands for the tables: ``init-db``, ``upgrade``, ``check``, ``adopt``, ``rotate-keys``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click
from flask.cli import with_appcontext

from ..core.times import plural
from ..store import Database, RotationResult, SchemaChange, statements
from .audit import entry_of
from .options import current_runtime, json_option, yes_option
from .output import confirm, echo, echo_json


@click.command("init-db")
@json_option
@with_appcontext
def init_db(as_json: bool) -> None:
    """Create the queue's tables where they are missing; existing ones stay as they are."""
    runtime = current_runtime()
    created = runtime.store.database.upgrade()
    runtime.store.ensure_queues()
    if as_json:
        _echo_document(runtime.store.database, added=created)
        return
    echo(
        f"Created {', '.join(change.name for change in created)}."
        if created
        else "The tables are there already."
    )


@click.command("upgrade")
@click.option("--sql", is_flag=True, help="Print the SQL statements without running them.")
@click.option("--dry-run", is_flag=True, help="Show what would be added without adding it.")
@json_option
@with_appcontext
def upgrade(sql: bool, dry_run: bool, as_json: bool) -> None:
    """Upgrade the queue's tables from any earlier version to this one.

    It only adds what is missing. Any number of processes may run it at the same time: one does
    the work and the others wait. Dispatchers can keep running.
    """
    runtime = current_runtime()
    database = runtime.store.database
    if sql and as_json:
        raise click.UsageError(
            "--sql prints statements and --json a document: give only one of them"
        )
    if sql or dry_run:
        missing = database.missing()
        if not missing:
            database.open()  # it reads their version
        _print(database, missing, sql=sql, as_json=as_json)
        return
    added = database.upgrade()
    runtime.store.ensure_queues()
    if as_json:
        _echo_document(database, added=added)
        return
    for change in added:
        echo(f"Added {change}.")
    echo(_state(database, []))


@click.command("check")
@json_option
@with_appcontext
def check(as_json: bool) -> None:
    """Check whether the queue's tables fit this version; exit code 1 if they do not."""
    database = current_runtime().store.database
    missing = database.missing()
    if not missing:
        database.refuse_if_too_new()
    if as_json:
        _echo_document(database, missing=missing)
    else:
        echo(_state(database, missing))
    sys.exit(1 if missing else 0)


@click.command("adopt")
@yes_option
@json_option
@with_appcontext
def adopt(yes: bool, as_json: bool) -> None:
    """Make this app the owner of the queue's tables and of the tasks in them.

    The dispatchers of the former owner then leave them alone.
    """
    runtime = current_runtime()
    other_owner = runtime.store.read(runtime.store.ownership.look)
    if other_owner is not None:
        text = other_owner.text
        confirm(f"{text[:1].upper()}{text[1:]}. Make this app their owner?", yes=yes)
    entry = entry_of(runtime, "adopt", f"the tables, for application {runtime.app.name}")
    before = runtime.store.ownership.adopt(lambda connection: entry.write(connection, True))
    if as_json:
        echo_json(
            {"application": runtime.app.name, "before": None if before is None else before.name}
        )
        return
    echo(f"The tables belong to application {runtime.app.name!r}.")


def _echo_document(
    database: Database, *, added: Sequence[SchemaChange] = (), missing: Sequence[SchemaChange] = ()
) -> None:
    version = None if missing or database.stamp is None else database.stamp.version
    texts = {
        "added": [str(change) for change in added],
        "missing": [str(change) for change in missing],
    }
    echo_json({"complete": not missing, "version": version, **texts})


def _print(
    database: Database, missing: Sequence[SchemaChange], *, sql: bool, as_json: bool
) -> None:
    if as_json:
        _echo_document(database, missing=missing)
        return
    if sql:
        for statement in statements(missing, database.engine.dialect):
            echo(f"{statement};")
        return
    for change in missing:
        echo(f"Would add {change}.")
    echo(_state(database, missing))


def _state(database: Database, missing: Sequence[SchemaChange]) -> str:
    if missing:
        return f"The tables are behind, {missing[0]} is missing: run flask taskqueue upgrade."
    return (
        "The tables are complete."
        if database.stamp is None
        else f"The tables are complete, of version {database.stamp.version}."
    )


@click.command("rotate-keys")
@json_option
@with_appcontext
def rotate_keys(as_json: bool) -> None:
    """Encrypt the contents of tasks with the newest of TASKQUEUE_ENCRYPTION_KEYS.

    It changes what is still plain or encrypted with an older key.
    """
    runtime = current_runtime()
    if not runtime.encryption.is_enabled:
        raise click.ClickException("there are no TASKQUEUE_ENCRYPTION_KEYS to encrypt with")
    runtime.store.ensure_queues()
    entry, total = entry_of(runtime, "rotate-keys", "what tasks hold"), RotationResult()
    entry.add(0)
    for step in runtime.store.key_rotation.rotate(runtime.store.database):
        total += step
        entry.add(step.changed)
    if as_json:
        echo_json({"encrypted": total.changed, "unreadable": total.unreadable})
    else:
        echo(f"Encrypted {plural(total.changed, 'row')} with the newest key.")
    if total.unreadable:
        raise click.ClickException(
            f"{plural(total.unreadable, 'row')} cannot be decrypted with TASKQUEUE_ENCRYPTION_KEYS "
            "and stayed unchanged: add the key that encrypted them and run this again"
        )
