"""The visible part of tasks, to which a search is limited so that it reveals nothing hidden."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa

from ...core.names import is_token
from ...core.security.redaction import UrlRedaction
from .filters import is_recent, says


@dataclass(frozen=True, slots=True, kw_only=True)
class Visible:
    """A search in tasks as somebody sees them, for a URL and for a part of what is seen.

    The visible parts are id, name, last error and URL; None means no restriction.

    The database compares no hidden text: a row whose URL is shown otherwise than it is stored is
    always a candidate, whatever the search is for, and `fits` judges it by what is seen. So neither
    the results, nor the amount of work, reveals anything about the hidden parts.
    """

    sight: UrlRedaction
    url: str | None = None
    search: str | None = None

    @classmethod
    def of(cls, packed: dict[str, Any] | None) -> Visible | None:
        """Return the search that `packed` describes."""
        if packed is None:
            return None
        sight = UrlRedaction(packed["sight"]["queries"], tuple(packed["sight"]["redact"]))
        return cls(sight=sight, url=packed["url"], search=packed["search"])

    def packed(self) -> dict[str, Any]:
        """Return the same for JSON."""
        return asdict(self)

    @property
    def is_anything(self) -> bool:
        """Whether every task fits."""
        return self.url is None and self.search is None

    def conditions(self, task: sa.Table) -> list[sa.ColumnElement[bool]]:
        """Return the conditions for the row of a candidate."""
        found: list[sa.ColumnElement[bool]] = []
        if self.url is not None:
            path = self.url.partition("?")[0]
            begins = task.c.url.startswith(path, autoescape=True) if is_token(path) else sa.false()
            same = task.c.url == self.url if is_token(self.url) else sa.false()
            found.append(
                sa.or_(same, sa.and_(begins, self._is_veiled(task)), task.c.url.contains("@"))
            )
        if self.search is not None:
            in_url = (
                task.c.url.icontains(self.search, autoescape=True)
                if is_token(self.search)
                else sa.false()
            )
            found += [is_recent(task), sa.or_(self._is_said(task), in_url, self._is_veiled(task))]
        return found

    def columns(self, task: sa.Table) -> list[sa.ColumnElement[Any]]:
        """Return the columns of a candidate that `fits` takes."""
        return [task.c.url, sa.case((self._is_said(task), 1), else_=0).label("is_said")]

    def fits(self, url: str, is_said: int) -> bool:
        """Return whether a candidate matches the search."""
        seen = self.sight.url(url)
        if self.url is not None and seen != self.url:
            return False
        return (
            self.search is None
            or bool(is_said)
            or (self.search.isprintable() and self.search.lower() in seen.lower())
        )

    def _is_said(self, task: sa.Table) -> sa.ColumnElement[bool]:
        """Return whether the search text is in the parts of a task that everybody sees."""
        return (
            sa.false() if self.search is None else says(task, self.search, (task.c.id, task.c.name))
        )

    def _is_veiled(self, task: sa.Table) -> sa.ColumnElement[bool]:
        """Return whether a URL may be shown otherwise than it is stored.

        Names of parameters may be escaped, so an escape counts.
        """
        url = task.c.url
        if not self.sight.queries:
            return sa.or_(*(url.contains(mark) for mark in "?#@"))
        hiding = [
            url.icontains(part, autoescape=True) for part in self.sight.redact if is_token(part)
        ]
        escaped = [url.contains(mark, autoescape=True) for mark in "%+"]
        return sa.or_(url.contains("@"), sa.and_(url.contains("?"), sa.or_(*hiding, *escaped)))
