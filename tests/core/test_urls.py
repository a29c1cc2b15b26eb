"""The normal form of a URL: nothing on its way writes it otherwise, and an application gets
from it what it would get from the URL.
"""

from __future__ import annotations

from urllib.parse import parse_qsl, unquote_to_bytes

import pytest
import urllib3
from hypothesis import assume, given
from hypothesis import strategies as st

from flask_taskqueue.core.errors import InvalidUrlError
from flask_taskqueue.core.urls import MAX_LENGTH, as_seen, as_sent, check_path, normal

PIECES = (
    "%2f",
    "%2F",
    "%3f",
    "%c3%A9",
    "%ff",
    "%41",
    "%2e",
    "%7e",
    "%",
    "/",
    "/.",
    "/..",
    "?",
    "&",
    "=",
    "+",
)
TEXTS = st.lists(st.sampled_from([*map(chr, range(0x21, 0x7F)), *PIECES]), max_size=30).map("".join)

NORMAL = {
    "/w?next=%2fhome": "/w?next=%2Fhome",
    "/caf%c3%a9": "/caf%C3%A9",
    "/w?a=1|2": "/w?a=1%7C2",
    '/w?a="<{x^}>`[1]': "/w?a=%22%3C%7Bx%5E%7D%3E%60%5B1%5D",
    "/w?a=100%": "/w?a=100%25",
    "/w?a=100%&b=%20": "/w?a=100%25&b=%20",
    "/%7euser/%41": "/~user/A",
    "/f/a/./b": "/f/a/b",
    "/f/a/../b": "/f/b",
    "/f/%2e%2E/b": "/b",
    "/..": "/",
    "/f/.": "/f/",
    "/f/.hidden/...": "/f/.hidden/...",
    "/w?": "/w?",
    "/w?..": "/w?..",
    "/w?a/../b": "/w?a/../b",
    "https://Example.com:8443/a/../b?x=%2f|": "https://Example.com:8443/b?x=%2F%7C",
    "http://[::1]:8000": "http://[::1]:8000",
    "http://example.com?a=[": "http://example.com?a=%5B",
    "http://example.com/../x": "http://example.com/x",
}


@pytest.mark.parametrize(("url", "expected"), NORMAL.items())
def test_normal_forms(url: str, expected: str) -> None:
    """As RFC 3986 has them."""
    assert normal(url) == expected


@given(TEXTS, TEXTS)
def test_a_url_that_is_taken_is_sent_as_it_is(path: str, query: str) -> None:
    """Its normal form has no other, and it is that of the client that sends it, of its own
    parts and of the signature.
    """
    try:
        url = check_path(f"/{path}?{query}")
    except InvalidUrlError:
        assume(False)
    assert check_path(url) == url
    assert urllib3.util.parse_url(f"http://example.com{url}").request_uri == url
    sent, _, asked = url.partition("?")
    assert as_sent(url) == as_seen(
        unquote_to_bytes(sent), asked
    )  # as PEP 3333 has servers do it, whatever the bytes are


@given(TEXTS, TEXTS)
def test_an_application_gets_the_same(path: str, query: str) -> None:
    """The path, where no part of it is dots, and the parameters."""
    try:
        url = check_path(f"/{path}?{query}")
    except InvalidUrlError:
        assume(False)
    found = url.partition("?")
    given_path, _, given_query = f"/{path}?{query}".partition("?")
    assert parse_qsl(found[2], keep_blank_values=True) == parse_qsl(
        given_query, keep_blank_values=True
    )
    given_bytes = unquote_to_bytes(given_path)
    if not {b".", b".."} & set(given_bytes.split(b"/")):
        assert unquote_to_bytes(found[0]) == given_bytes


@pytest.mark.parametrize(
    "url",
    [
        "//host/x",
        "/..//host",
        "/a/..//host",
        "x",
        "",
        "/a b",
        "/ü",
        "/a#b",
        "/a\\b",
        "/%ff",
        "/a%C3?b",
        "/a%00",
        f"/{'|' * MAX_LENGTH}"[:MAX_LENGTH],
    ],
)
def test_what_is_no_path_is_refused(url: str) -> None:
    """Also where it is none only in its normal form."""
    with pytest.raises(InvalidUrlError):
        check_path(url)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("https://bücher.example/", "DNS, which holds xn--"),
        ("https://buecher.example/ä", "use urllib.parse.quote"),
        ("/ä", "use urllib.parse.quote"),
    ],
)
def test_what_to_do_about_letters_that_are_not_ascii(url: str, said: str) -> None:
    """To quote a host would not help."""
    with pytest.raises(InvalidUrlError, match=said):
        normal(url)


@given(st.binary(max_size=20), st.binary(max_size=20), TEXTS, TEXTS)
def test_what_is_signed_tells_urls_apart(
    one: bytes, other: bytes, query: str, another: str
) -> None:
    """Two paths, or two queries, are two texts, though the path is unescaped when it arrives."""
    same = (one.lstrip(b"/"), query) == (other.lstrip(b"/"), another)
    assert (as_seen(one, query) == as_seen(other, another)) is same
