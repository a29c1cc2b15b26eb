"""``flask taskqueue init-db``, ``upgrade``, ``check`` and ``adopt``: the tables."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click
from flask.cli import with_appcontext

from ..store import Database, RotationResult, SchemaChange, statements
from .options import current_runtime, json_option, yes_option
from .output import confirm, echo_json


@click.command("init-db")
@json_option
@with_appcontext
def init_db(as_json: bool) -> None:
    """Create the queue's tables that are missing; harmless when they are there."""
    runtime = current_runtime()
    created = runtime.store.database.upgrade()
    runtime.store.ensure_queues()
    if as_json:
        _echo_document(runtime.store.database, added=created)
        return
    click.echo(
        f"Created {', '.join(change.name for change in created)}."
        if created
        else "The tables are there already."
    )


@click.command("upgrade")
@click.option("--sql", is_flag=True, help="Print the statements, and change nothing.")
@click.option("--dry-run", is_flag=True, help="Say what would be added, and change nothing.")
@json_option
@with_appcontext
def upgrade(sql: bool, dry_run: bool, as_json: bool) -> None:
    """Add to the queue's tables what this version needs, from any earlier one; what is there stays
    as it is.

    Any number of processes may do it at once: one does, the others wait. Dispatchers need not be
    stopped.
    """
    runtime = current_runtime()
    database = runtime.store.database
    if sql and as_json:
        raise click.UsageError("--sql prints statements, --json a document: give one of them")
    if sql or dry_run:
        _print(database, database.missing(), sql=sql, as_json=as_json)
        return
    added = database.upgrade()
    runtime.store.ensure_queues()
    if as_json:
        _echo_document(database, added=added)
        return
    for change in added:
        click.echo(f"Added {change}.")
    click.echo(_state(database, []))


@click.command("check")
@json_option
@with_appcontext
def check(as_json: bool) -> None:
    """Say whether the queue's tables are those of this version; exit code 1 if they are not."""
    database = current_runtime().store.database
    missing = database.missing()
    if not missing:
        database.refuse_if_too_new()
    if as_json:
        _echo_document(database, missing=missing)
    else:
        click.echo(_state(database, missing))
    sys.exit(1 if missing else 0)


@click.command("adopt")
@yes_option
@json_option
@with_appcontext
def adopt(yes: bool, as_json: bool) -> None:
    """Make the queue's tables, and the tasks in them, this application's, whosever they are;
    another one's dispatchers leave them alone.
    """
    runtime = current_runtime()
    with runtime.store.reading() as connection:
        found = runtime.store.ownership.look(connection)
    if found is not None:
        confirm(f"{found.text[:1].upper()}{found.text[1:]}. Make them this one's?", yes=yes)
    before = runtime.store.ownership.adopt()
    if as_json:
        echo_json(
            {"application": runtime.app.name, "before": None if before is None else before.name}
        )
        return
    click.echo(f"The tables are those of application {runtime.app.name!r}.")


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
            click.echo(f"{statement};")
        return
    for change in missing:
        click.echo(f"Would add {change}.")
    click.echo(_state(database, missing))


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
    """Encrypt what tasks hold with the newest of TASKQUEUE_ENCRYPTION_KEYS, where it is plain
    or of an older one.
    """
    runtime = current_runtime()
    if not runtime.vault.seals:
        raise click.ClickException("there are no TASKQUEUE_ENCRYPTION_KEYS to encrypt with")
    runtime.store.ensure_queues()
    total = sum(runtime.store.key_rotation.rotate(runtime.store.database), RotationResult())
    if as_json:
        echo_json({"encrypted": total.changed, "unreadable": total.unreadable})
    else:
        click.echo(f"{total.changed} rows are encrypted with the newest key now.")
    if total.unreadable:
        raise click.ClickException(
            f"{total.unreadable} rows are of other keys than TASKQUEUE_ENCRYPTION_KEYS; they "
            "were left as they are"
        )
