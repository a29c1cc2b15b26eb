"""Whose the tables are, as a decision."""

from __future__ import annotations

import pytest

from flask_taskqueue.core.delivery.signatures import fingerprints, route_keys, webhook_keys
from flask_taskqueue.core.ownership import Application, judge

SHOP = Application("shop", ("a",))


@pytest.mark.parametrize(
    ("ours", "owner", "rival", "level"),
    [
        (SHOP, None, "host:1", None),
        (SHOP, SHOP, "host:1", None),
        (Application("shop", ("b", "a")), SHOP, None, None),
        (SHOP, Application("shop", ("b", "a")), None, None),
        (Application("worker", ("a",)), SHOP, None, None),
        (Application("blog", ("b",)), SHOP, None, "error"),
        (Application("shop", ("b",)), SHOP, "host:1", "error"),
        (Application("shop", ("b",)), SHOP, None, "warning"),
        (Application("blog", ()), SHOP, "host:1", None),
    ],
)
def test_an_application_is_known_by_its_secrets_then_by_its_name(
    ours: Application, owner: Application | None, rival: str | None, level: str | None
) -> None:
    """One that shares a secret is the same one; of the others one of the same name may follow
    one that is gone.
    """
    found = judge(ours, owner, lambda: rival)
    assert (found and found.level) == level


def test_what_is_told_names_both_and_what_to_do() -> None:
    """And where the dispatcher is that is in the way."""
    told = str(judge(Application("blog", ("b",)), SHOP, lambda: None))
    assert all(
        word in told
        for word in (
            "'shop'",
            "'blog'",
            "TASKQUEUE_TABLE_PREFIX",
            "SECRET_KEY_FALLBACKS",
            "flask taskqueue adopt",
        )
    )
    assert "web1:17" in str(judge(Application("shop", ("b",)), SHOP, lambda: "web1:17"))


def test_a_fingerprint_tells_nothing_that_signs() -> None:
    """It is of the secret for this purpose alone, and short."""
    (one,), (other,) = fingerprints(["a secret"]), fingerprints([b"another"])
    assert len(one) == len(other) == 32
    assert one != other
    assert not any(
        one in key.hex() for key in (*route_keys(["a secret"]), *webhook_keys(["a secret"]))
    )
