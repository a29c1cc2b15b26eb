"""The owner: which app the tables belong to, and what other apps are told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .diagnosis.facts import Finding

_ANCHOR = "troubleshooting#another-application"


@dataclass(frozen=True, slots=True)
class Application:
    """An app as the tables know it.

    ``fingerprints`` are those of the secrets that sign its deliveries, newest first (see
    `signatures.fingerprints`); without a secret there are none. Two apps that share a secret are
    the same app, whatever each is called: one may have a new key, or be a process that loads the
    app under another name.
    """

    name: str
    fingerprints: tuple[str, ...]

    def is_same(self, other: Application) -> bool:
        """Return whether the two apps share a secret."""
        return not set(self.fingerprints).isdisjoint(other.fingerprints)

    def is_up_to_date(self, owner: Application) -> bool:
        """Return whether the owner that the tables name has this app's newest secret."""
        return bool(self.fingerprints) and self.fingerprints[0] in owner.fingerprints


def judge(
    ours: Application, owner: Application | None, find_rival: Callable[[], str | None]
) -> Finding | None:
    """Return what keeps an app from using tables of this owner; None if nothing does.

    Tables without an owner can be used. ``find_rival`` returns where a dispatcher with none of our
    secrets is alive, or None. A warning means that the tables may change hands, an error that they
    may not.
    """
    if owner is None or not ours.fingerprints or ours.is_same(owner):
        return None
    if ours.name != owner.name:
        return Finding(
            "error",
            f"the queue's tables belong to application {owner.name!r}, and this is {ours.name!r}",
            _TWO,
            _ANCHOR,
        )
    rival = find_rival()
    if rival is not None:
        text = (
            f"the queue's tables belong to an application {owner.name!r} with another secret, "
            f"whose dispatcher is alive ({rival})"
        )
        return Finding("error", text, _SAME_NAME, _ANCHOR)
    text = (
        f"the queue's tables belong to an application {owner.name!r} with another secret, none "
        "of whose dispatchers is alive"
    )
    return Finding("warning", text, _CHANGED, _ANCHOR)


_TWO = (
    "give one of the two tables of its own, with TASKQUEUE_TABLE_PREFIX or "
    "TASKQUEUE_DATABASE_URI. If both are one application, give both "
    "the same SECRET_KEY or TASKQUEUE_SECRET, or keep the secret that was replaced in "
    "SECRET_KEY_FALLBACKS; "
    "flask taskqueue adopt hands the tables to this one"
)
_SAME_NAME = (
    "give every process of one application the same SECRET_KEY or TASKQUEUE_SECRET, not a "
    "random one, and keep a secret that was replaced "
    "in SECRET_KEY_FALLBACKS; if it was killed, wait half a minute. If they are two "
    "applications, give one of them tables of its own, with "
    "TASKQUEUE_TABLE_PREFIX; flask taskqueue adopt hands the tables to this one"
)
_CHANGED = (
    "if its secret was replaced, keep the old one in SECRET_KEY_FALLBACKS for a while; if it "
    "is random at each start, set one that stays; "
    "if this is another application, give it tables of its own, with TASKQUEUE_TABLE_PREFIX"
)
