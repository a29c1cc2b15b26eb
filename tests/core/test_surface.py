"""The surface: by which API a task was added, as it is stored."""

from __future__ import annotations

import pytest

from flask_taskqueue.core.delivery.surface import Surface
from flask_taskqueue.core.errors import InvalidTaskError


@pytest.mark.parametrize(
    ("surface", "families"),
    [
        (Surface(api="cloudtasks", kind="http"), ("cloudtasks",)),
        (Surface(api="cloudtasks", kind="appengine"), ("appengine", "cloudtasks")),
        (Surface(api="appengine"), ("appengine",)),
        (
            Surface(api="cloudtasks", kind="http", oidc={"email": "a@b", "audience": "c"}),
            ("cloudtasks",),
        ),
    ],
)
def test_a_surface_is_read_as_it_was_stored(surface: Surface, families: tuple[str, ...]) -> None:
    """It says which headers the task gets."""
    assert Surface.stored(surface.to_json()) == surface
    assert surface.families == families


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "7", "null", "{}", "[" * 100_000),
        *('{"api": "s3"}', '{"api": ["cloudtasks"]}', '{"api": "cloudtasks", "kind": {}}'),
        *('{"api": "cloudtasks", "oidc": {"email": 1}}', '{"api": "cloudtasks", "oidc": "x"}'),
        '{"api": "cloudtasks", "more": 1}',
    ],
)
def test_a_surface_that_was_written_by_hand_is_refused(text: str) -> None:
    """It cannot break the dispatcher that reads it."""
    with pytest.raises(InvalidTaskError, match="surface"):
        Surface.stored(text)
