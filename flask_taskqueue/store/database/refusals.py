"""Refusals: what a database said when it did not do what it was asked."""

from __future__ import annotations

import sqlalchemy as sa

from ...core.errors import TransientError


def refusal(error: BaseException) -> str | None:
    """The words of the database behind an error, but their first line only: what follows may quote
    a row. None if it said nothing.

    They may name hosts and users: they are for logs and for those who operate it, not for
    everybody.
    """
    said = error if isinstance(error, sa.exc.DBAPIError) else error.__cause__
    return (
        str(said.orig).strip().partition("\n")[0] or None
        if isinstance(said, sa.exc.DBAPIError)
        else None
    )


class LockedError(TransientError):
    """Another transaction holds a lock that one would have to wait for; nothing was changed."""


class MovedError(Exception):
    """What a transaction had looked at was changed before it could change it: it is to be run
    again, whole.
    """
