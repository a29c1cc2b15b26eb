"""The schema: whether the tables in the database are the ones that this code needs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles

from ...core.errors import TablesMissingError, TablesOutdatedError, TablesTooNewError
from .dialects import Dialect
from .tables import Tables

_ROW = 1


@dataclass(frozen=True, slots=True)
class SchemaVersion:
    """The version that the tables declare.

    ``version`` is raised by each release that changes the tables, and a release only ever adds to
    them. ``oldest`` is the oldest version whose dispatchers may work with them, as happens while a
    release is rolled out.
    """

    version: int
    oldest: int

    @property
    def is_behind(self) -> bool:
        """Whether the tables are of an earlier version than this code."""
        return self.version < CURRENT.version

    @property
    def is_too_new(self) -> bool:
        """Whether dispatchers of this code must leave the tables to newer ones."""
        return self.oldest > CURRENT.version

    def too_new_error(self) -> TablesTooNewError:
        """Return the error for tables that dispatchers of this code must leave to newer ones."""
        return TablesTooNewError(
            f"the tables are of version {self.version} and need dispatchers of version "
            f"{self.oldest}, this is version {CURRENT.version}: run the newer Flask-TaskQueue"
        )


CURRENT = SchemaVersion(version=2, oldest=2)
"""The version that this code's tables declare."""


@dataclass(frozen=True, slots=True)
class SchemaChange:
    """A missing part of the tables, and the statement that adds it."""

    kind: Literal["table", "column", "index"]
    name: str
    statements: tuple[sa.schema.ExecutableDDLElement, ...]

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


class _AddColumn(sa.schema.ExecutableDDLElement):
    """``ALTER TABLE … ADD COLUMN``, which SQLAlchemy leaves to migration tools."""

    inherit_cache = False

    def __init__(self, column: sa.Column[Any]) -> None:
        self.column = column


@compiles(_AddColumn)
def _add_column(element: _AddColumn, compiler: Any, **_: Any) -> str:
    table = compiler.preparer.format_table(element.column.table)
    return f"ALTER TABLE {table} ADD COLUMN {compiler.get_column_specification(element.column)}"


class Schema:
    """A comparison of the tables in the database with those of this code, which can add to them."""

    def __init__(self, tables: Tables, dialect: Dialect) -> None:
        self._tables = tables
        self._dialect = dialect
        self._insert = dialect.insert_missing(tables.schema)

    def stamp(self, connection: sa.Connection) -> SchemaVersion | None:
        """Return the version that the tables declare, or None if they were never found complete."""
        schema = self._tables.schema
        row = connection.execute(
            sa.select(schema.c.version, schema.c.oldest).where(schema.c.id == _ROW)
        ).one_or_none()
        return None if row is None else SchemaVersion(row.version, row.oldest)

    def mark(self, connection: sa.Connection) -> None:
        """Store that the tables are of this version, if they were of an earlier one."""
        schema = self._tables.schema
        connection.execute(self._insert, {"id": _ROW, **asdict(CURRENT)})
        earlier = sa.and_(schema.c.id == _ROW, schema.c.version < CURRENT.version)
        connection.execute(sa.update(schema).where(earlier).values(asdict(CURRENT)))

    def missing(self, connection: sa.Connection) -> list[SchemaChange]:
        """Return the tables, columns and indexes that the database lacks, by looking at it."""
        inspector = sa.inspect(connection)
        return [change for table in self._tables.all for change in _missing(inspector, table)]

    def upgrade(self, connection: sa.Connection) -> list[SchemaChange]:
        """Add the missing parts, one process at a time, and return them."""
        with self._dialect.alone(connection, self._tables.schema.name):
            changes = self.missing(connection)
            for change in changes:
                for statement in change.statements:
                    connection.execute(statement)
            self.mark(connection)
        return changes

    def lacking_error(self, lacking: Sequence[SchemaChange]) -> TablesMissingError:
        """Return the error that says what the database lacks, and what adds it."""
        tables = self._tables
        if [change.name for change in lacking] == [table.name for table in tables.all]:
            return TablesMissingError(
                f"the database has no table {tables.task.name}; create it with: flask "
                "taskqueue init-db "
                "(or db.create_all(), or flask db migrate and flask db upgrade)"
            )
        return TablesOutdatedError(
            f"the tables in the database are of an earlier version, {lacking[0]} is missing; "
            "run: flask taskqueue upgrade "
            "(or flask db migrate and flask db upgrade)"
        )

    def refuse_unchangeable(self, error: Exception) -> None:
        """Raise `TablesOutdatedError` if an error says that the tables may not be changed."""
        refusal = error if isinstance(error, sa.exc.DBAPIError) else error.__cause__
        if not isinstance(refusal, sa.exc.DBAPIError):
            return
        if refusal is error or self._dialect.is_read_only(refusal):
            raise TablesOutdatedError(
                f"the database does not let the tables be changed ({refusal.orig}); flask "
                "taskqueue upgrade --sql prints the statements"
            ) from error


def statements(changes: Iterable[SchemaChange], dialect: sa.Dialect) -> list[str]:
    """Return the statements of changes as they are sent to a database."""
    return [
        str(statement.compile(dialect=dialect)).strip()
        for change in changes
        for statement in change.statements
    ]


def _missing(inspector: sa.Inspector, table: sa.Table) -> Iterator[SchemaChange]:
    if not inspector.has_table(table.name, table.schema):
        indexes = [sa.schema.CreateIndex(index) for index in _indexes(table)]
        yield SchemaChange("table", table.name, (sa.schema.CreateTable(table), *indexes))
        return
    columns = {column["name"] for column in inspector.get_columns(table.name, table.schema)}
    for column in table.columns:
        if column.name not in columns:
            yield SchemaChange("column", f"{table.name}.{column.name}", (_AddColumn(column),))
    indexes_there = {index["name"] for index in inspector.get_indexes(table.name, table.schema)}
    for index in _indexes(table):
        if index.name not in indexes_there:
            yield SchemaChange("index", str(index.name), (sa.schema.CreateIndex(index),))


def _indexes(table: sa.Table) -> list[sa.Index]:
    return sorted(table.indexes, key=lambda index: str(index.name))
