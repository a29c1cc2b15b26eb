"""Findings about MariaDB and MySQL: tables whose storage engine has no transactions."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from ....core.diagnosis.facts import Finding

_UNSAFE = sa.text(
    "SELECT t.table_name, t.engine FROM information_schema.tables t "
    "JOIN information_schema.engines e ON e.engine = t.engine "
    "WHERE t.table_schema = coalesce(:place, database()) AND t.table_name IN :names "
    "AND e.transactions = 'NO' ORDER BY t.table_name"
).bindparams(sa.bindparam("names", expanding=True))


def of_tables(engine: sa.Engine, tables: Sequence[sa.Table]) -> list[Finding]:
    """Return a finding for each table that rolls nothing back, as far as can be told."""
    named = {"place": tables[0].schema, "names": [table.name for table in tables]}
    try:
        with engine.connect() as connection:
            found = connection.execute(_UNSAFE, named).all()
    except sa.exc.SQLAlchemyError:
        return []
    return [_of_table(name, kind) for name, kind in found]


def _of_table(name: str, kind: str) -> Finding:
    return Finding(
        "error",
        f"table {name} has the storage engine {kind}, which has no transactions: tasks are lost, "
        "or kept although their transaction was rolled back",
        f"run: ALTER TABLE {name} ENGINE = InnoDB",
        "databases#mariadb-mysql",
    )
