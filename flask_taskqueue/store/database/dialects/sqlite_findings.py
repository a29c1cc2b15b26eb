"""Findings about SQLite: its version, where its file is, how the application uses it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

import sqlalchemy as sa

from ....core.diagnosis.facts import Finding

_NETWORK = {
    "9p",
    "afs",
    "beegfs",
    "ceph",
    "cifs",
    "davfs",
    "glusterfs",
    "gpfs",
    "lustre",
    "ncpfs",
    "nfs",
    "nfs4",
    "smb2",
    "smb3",
    "smbfs",
}
_NETWORK |= {"s3fs", "sshfs", "rclone", "gcsfuse", "vboxsf"}
_MOUNTS = Path("/proc/self/mounts")

IN_MEMORY = Finding(
    "error",
    "an in-memory SQLite database is one connection and cannot be shared with a dispatcher's "
    "threads",
    "use a file, or in tests run what is due with tasks.drain()",
    "troubleshooting#in-memory",
)


def of_version(version: tuple[int, ...]) -> Finding | None:
    """Return a finding if this SQLite can damage a file that several connections write to.

    See https://www.sqlite.org/wal.html#walresetbug.
    """
    mended = (
        version < (3, 7)
        or version >= (3, 51, 3)
        or (3, 50, 7) <= version < (3, 51)
        or (3, 44, 6) <= version < (3, 45)
    )
    if mended:
        return None
    return Finding(
        "info",
        f"SQLite {'.'.join(map(str, version))} has the WAL-reset bug: very rarely, two "
        "connections that write at the same moment "
        "damage the file, unless your distribution has mended it",
        "use a Python with SQLite 3.51.3 or later (or 3.50.7, 3.44.6), or PostgreSQL, and "
        "keep backups",
        "databases#sqlite",
    )


def of_place(path: str, mounts: Path = _MOUNTS) -> Finding | None:
    """Return a finding if a database file is on a network filesystem, as far as can be told."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return None
    kind = _filesystem(os.path.realpath(path.removeprefix("file:").partition("?")[0]), lines)
    if kind is None or kind.removeprefix("fuse.") not in _NETWORK:
        return None
    return Finding(
        "warning",
        f"the SQLite file {path} is on a network filesystem ({kind}), where its locks and "
        "its write-ahead log do not hold: "
        "tasks can be lost or run twice, and the file can be damaged",
        "put the file on a local disk (TASKQUEUE_DATABASE_URI can name one of the queue's "
        "own), or use PostgreSQL or MariaDB",
        "databases#sqlite",
    )


def of_journal(engine: sa.Engine) -> Finding | None:
    """Return a finding if a file has no write-ahead log, although our connections ask for one."""
    try:
        with engine.connect().execution_options(taskqueue_reading=True) as connection:
            mode = connection.exec_driver_sql("PRAGMA journal_mode").scalar()
    except sa.exc.DBAPIError:
        return None
    if mode == "wal":
        return None
    return Finding(
        "warning",
        f"the SQLite file has journal_mode={mode}, not WAL: whoever writes keeps all others "
        "from reading",
        "close the connection that writes in another mode, or put the file where WAL works: "
        "on a local disk",
        "troubleshooting#locked",
    )


def of_rollbacks(engine: sa.Engine) -> Finding | None:
    """Return a finding if an engine skips rollbacks."""
    if not getattr(engine.dialect, "skip_autocommit_rollback", False):
        return None
    return Finding(
        "error",
        "the application's engine has skip_autocommit_rollback=True: on SQLite a connection "
        "that begins its transactions itself "
        "then never rolls back, and tasks of a failed transaction would be kept",
        "remove it from SQLALCHEMY_ENGINE_OPTIONS (or the bind's options)",
    )


def _filesystem(path: str, mounts: Iterable[str]) -> str | None:
    """Return the type of the filesystem that holds a path.

    It is that of the longest mount point above the path, the last one mounted if there are several.
    """
    best, kind = "", None
    for line in mounts:
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = re.sub(r"\\([0-7]{3})", lambda escaped: chr(int(escaped[1], 8)), fields[1])
        if (path + "/").startswith(point.rstrip("/") + "/") and len(point) >= len(best):
            best, kind = point, fields[2]
    return kind
