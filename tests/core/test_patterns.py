"""Regular expressions: each takes a time in proportion to what it is given."""

from __future__ import annotations

import ast
import importlib
import itertools
import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

import flask_taskqueue
from flask_taskqueue.core.delivery.outcome import retry_after
from flask_taskqueue.core.failures import Failure, Signature, group
from flask_taskqueue.core.times import LONGEST

PACKAGE = Path(flask_taskqueue.__file__).parent
METHODS = ("match", "fullmatch", "search", "sub", "findall", "finditer", "split")
SIZES = [2**power for power in range(4, 14)]
STEP = 8
LIMIT = 4 * STEP
"""How much longer eight times as much may take: in proportion it is 8, with a square 64."""

REPEATED = [
    "a",
    "1",
    " ",
    "a-",
    "a1-",
    "1.",
    "-",
    ".",
    "/",
    "/a",
    "'",
    '"',
    '\\"',
    "\\",
    "--",
    "-- ",
    "/*",
    "*/",
    "\n",
    "0x",
    ":",
    "[",
]
REPEATED += [
    "{",
    "%",
    "a@",
    ",",
    "\t",
    "\x00",
    "é",
    "\ufffc",
    '"\ufffc',
    "a=",
    "a ",
    " a",
    "..",
    "/.",
    "/..",
    " (gave up after 1",
    "a1b2c3d4-",
]
BEFORE = ["", "a", '"', "'", "0x", "http://", "//", "-- ", "/*", "[", "1", "/"]
AFTER = ["", "!", "\x00", "\n", '"']


def sources() -> Iterator[tuple[str, ast.Module]]:
    """The modules of the package."""
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(
            ".__init__"
        )
        yield name, ast.parse(path.read_text(encoding="utf-8"))


def found() -> Iterator[tuple[str, Callable[[str], object]]]:
    """Each use of a regular expression: how it is called, and what does it."""
    for module, tree in sources():
        for node in ast.walk(tree):
            if not (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.attr in METHODS
            ):
                continue
            owner = (
                re
                if node.value.id == "re"
                else getattr(importlib.import_module(module), node.value.id, None)
            )
            if isinstance(owner, re.Pattern):
                yield f"{module}.{node.value.id}.{node.attr}", use(owner, node.attr)
        for node in ast.walk(tree):
            inline = (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and ast.unparse(node.func.value) == "re"
            )
            if inline and node.func.attr in METHODS and isinstance(node.args[0], ast.Constant):
                yield (
                    f"{module}:{node.args[0].value}",
                    use(re.compile(node.args[0].value), node.func.attr),
                )


def use(pattern: re.Pattern[str], method: str) -> Callable[[str], object]:
    """One call of a pattern's method."""
    if method == "sub":
        return lambda text: pattern.sub("", text)
    if method == "finditer":
        return lambda text: list(pattern.finditer(text))
    return getattr(pattern, method)  # type: ignore[no-any-return]


def took(work: Callable[[str], object], text: str) -> float:
    """The least processor time of three runs."""
    times = []
    for _ in range(3):
        began = time.thread_time()
        work(text)
        times.append(time.thread_time() - began)
    return min(times)


def assert_linear(work: Callable[[str], object], make: Callable[[int], str], what: str) -> None:
    """Work on ever longer texts: from one that takes a measurable time, eight times as long
    takes no more than four times as much again.
    """
    times = []
    for size in SIZES:
        times.append(took(work, make(size)))
        if len(times) > 3 and times[-4] > 0.000_2:
            assert times[-1] < LIMIT * times[-4], (
                f"{what}: {size // STEP} in {times[-4]:.6f} s, {size} in {times[-1]:.6f} s"
            )
        assert times[-1] < 1 or size > 1000, f"{what} takes {times[-1]:.1f} s for {size} characters"


USES = dict(found())


def test_every_pattern_is_tried() -> None:
    """Each module that imports re has one of them here, or uses what it was given."""
    users = {
        name
        for name, tree in sources()
        if any(isinstance(one, ast.Import) and one.names[0].name == "re" for one in ast.walk(tree))
    }
    tried = {name.partition(":")[0] for name in USES}
    assert {
        user
        for user in users
        if not any(name == user or name.startswith(f"{user}.") for name in tried)
    } <= {
        # the converters of the application's own routes, with samples
        "flask_taskqueue.diagnosis.routes"
    }


@pytest.mark.parametrize("name", USES)
def test_a_pattern_takes_time_in_proportion(name: str) -> None:
    """Whatever is repeated in the text, whatever stands before and after it."""
    for before, repeated, after in itertools.product(BEFORE, REPEATED, AFTER):
        longest = before + repeated * (SIZES[-1] // len(repeated)) + after
        began = time.thread_time()
        USES[name](before + repeated * 26 + after)
        assert time.thread_time() - began < 0.5, (
            f"{name} takes a time that grows exponentially with {repeated!r}"
        )
        USES[name](longest[:2048])
        USES[name](longest)
        if time.thread_time() - began > 0.004:
            assert_linear(
                USES[name],
                lambda size, r=repeated, b=before, a=after: b + r * (size // len(r)) + a,
                f"{name} {repeated!r}",
            )


@pytest.mark.parametrize(
    "repeated", ["a-", "a1-", "abcdefgh-", "'", '"', "1", "a1b2c3d4e5-", "_a-", "0x"]
)
def test_failures_are_grouped_in_time_in_proportion(repeated: str) -> None:
    """By errors and URLs that others have written."""

    def look(text: str) -> None:
        list(group([Failure("x", 1, "failure", 404, text, 1, "default", f"/w/{text}", "dead")]))

    assert_linear(look, lambda size: repeated * (size // len(repeated)), repeated)


def test_only_the_beginning_of_a_text_makes_a_failure_what_it_is() -> None:
    """A text without end is cut before anything looks at it."""
    one, other = (
        Failure("x", 1, "failure", 404, "a-" * 10_000 + end, 1, "default", "/w", "dead")
        for end in "bc"
    )
    assert Signature.of(one) == Signature.of(other)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        ("order 12 of 'ana' failed (gave up after 3 attempts)", "order * of * failed"),
        ("x (gave up after 1 attempt)", "x"),
        ("x (gave up after all) y", "x (gave up after all) y"),
        (
            "at 0x7f3a: 4bf92f35-77b3 and abc-4bf92f3577b3-1 and deadline-exceeded",
            "at *: * and abc-* and deadline-exceeded",
        ),
        ("my_function12345 twice-12", "my_function* twice-*"),
    ],
)
def test_what_varies_makes_no_other_failure(error: str, text: str) -> None:
    """Numbers, quoted texts and identifiers count as the same; words do not."""
    assert (
        Signature.of(Failure("x", 1, "failure", 404, error, 1, "default", "/w", "dead")).text
        == text
    )


def test_a_retry_after_without_end_is_as_long_as_any() -> None:
    """A number is one however long it is."""
    assert retry_after("1" * 60_000, datetime.now(UTC)) == LONGEST
