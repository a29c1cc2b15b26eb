"""What the documentation shows runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.pages import PAGES, ROOT, run

RECIPES = sorted(ROOT.glob("docs/recipes/*.md"))
WHOLE = [*(page for page in PAGES if page.stem != "testing"), *RECIPES]
"""Those whose blocks are one program; that of the testing kit has files of tests, which its own
tests run.
"""


@pytest.mark.parametrize(
    "page", WHOLE, ids=[str(page.relative_to(ROOT).with_suffix("")) for page in WHOLE]
)
def test_the_examples_of_a_page_run(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each block of Python, in the order of the page."""
    monkeypatch.chdir(tmp_path)
    run(page, tmp_path)
