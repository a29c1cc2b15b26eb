"""The rows of the app's database, as what deferred calls hold refers to them."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import InstanceState

from ..core.errors import InvalidTaskError, PermanentFailure, shown
from ..runtime import Runtime


class SessionRows:
    """The rows of the session that an app's Flask-SQLAlchemy has."""

    def __init__(self, runtime: Runtime) -> None:
        self._binding = runtime.binding

    def key_of(self, value: Any) -> tuple[Any, ...] | None:
        """Return the primary key of a row; None for any other value.

        Raises `InvalidTaskError` for a row that has no key yet, and without Flask-SQLAlchemy.
        """
        state = sa.inspect(value, raiseerr=False)
        if not isinstance(state, InstanceState):
            return None
        if self._binding.db is None:
            raise InvalidTaskError(
                "a row can be loaded again only with the app's Flask-SQLAlchemy: give its key"
            )
        if state.identity is None:
            raise InvalidTaskError(
                f"the {type(value).__name__} has no primary key yet: add it to the session and "
                "call flush(), or give the values"
            )
        return tuple(state.identity)

    def load(self, kind: type, key: tuple[Any, ...]) -> Any:
        """Return the row of a class with this key, from the session.

        Raises `PermanentFailure` if there is none, no such class of rows, or if rows of that class
        cannot have such a key.
        """
        if self._binding.db is None or sa.inspect(kind, raiseerr=False) is None:
            raise PermanentFailure(f"{kind.__module__}.{kind.__qualname__} is no class of rows")
        session = self._binding.session()
        if session.autoflush:
            session.flush()  # before get() does, so that its errors are not taken for the key's
        try:
            found = session.get(kind, key)
        except (sa.exc.InvalidRequestError, sa.exc.StatementError) as error:
            if not _is_of_key(error):
                raise
            raise PermanentFailure(f"{shown(key)} is no key of a {kind.__name__}") from error
        if found is None:
            raise PermanentFailure(f"the {kind.__name__} with key {shown(key)} is gone")
        return found


def _is_of_key(error: sa.exc.SQLAlchemyError) -> bool:
    """Return whether it is the key that an error of ``get()`` is about.

    The database then calls it data of a wrong kind, or SQLAlchemy does, without asking it.
    """
    if isinstance(error, sa.exc.DBAPIError):
        return isinstance(error, sa.exc.DataError)
    return not isinstance(error, sa.exc.PendingRollbackError)
