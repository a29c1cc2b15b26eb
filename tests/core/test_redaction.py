"""What is never shown, and how an edited text gets it back."""

from __future__ import annotations

import json

import pytest

from flask_taskqueue.core.security.redaction import HIDDEN, READ_FOR_LINE, Redaction

REDACTION = Redaction(("token", "password", "authorization"))
FORM = "application/x-www-form-urlencoded"
JSON = "application/json; charset=utf-8"


@pytest.mark.parametrize(
    ("body", "content_type", "shown"),
    [
        (b"a=1&api_token=s3cret&b=%C3%A9", FORM, f"a=1&api_token={HIDDEN}&b=%C3%A9"),
        (b"%74oken=s3cret&Password=x", FORM, f"%74oken={HIDDEN}&Password={HIDDEN}"),
        (b"", FORM, ""),
        (b'{"user":{"password":"s3cret","n":[{"TOKEN":[1,2]}]}}', JSON, f'"password": "{HIDDEN}"'),
        (b'[{"name":"password","value":"s3cret"},7]', JSON, f'"value": "{HIDDEN}"'),
        (b'{"headers":[["Authorization","s3cret"]]}', JSON, f'"{HIDDEN}"'),
        (b'{"key":"reset-password-mail","to":"x"}', JSON, '"to": "x"'),
        (b"not { json", JSON, "not { json"),
        (b"plain", "text/plain", "plain"),
    ],
)
def test_values_are_hidden_by_their_names(body: bytes, content_type: str, shown: str) -> None:
    """In forms and in JSON, at any depth, whatever the case of the name and however it is
    encoded.
    """
    text = REDACTION.body(body, content_type)
    assert text is not None
    assert shown in text
    assert "s3cret" not in text


DOCUMENT = b'{"password":"s3cret"}'


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"--x\r\nContent-Disposition: form-data; name=a\r\n\r\ns3cret", "Multipart/Form-Data; x"),
        (DOCUMENT + b"\n" + DOCUMENT, "application/x-ndjson"),
        (b"\xef\xbb\xbf" + DOCUMENT, JSON),
        (DOCUMENT[:-1], JSON),
        (rb'{"pass\u0077ord":"s3cret"', JSON),
        (DOCUMENT, "text/plain"),
        (DOCUMENT, ""),
        (b"password\ns3cret", "text/csv"),
        (b"<pass&#119;ord>s3cret</pass&#x77;ord>", "application/xml"),
        (b"a%20=1&t%6fken=s3cret", "text/plain"),
        (DOCUMENT, FORM),
    ],
)
def test_what_cannot_be_looked_through_is_hidden_as_a_whole(body: bytes, content_type: str) -> None:
    """If a hidden name may be in it; an edit that keeps it as it is shown is the body itself."""
    assert REDACTION.body(body, content_type) == HIDDEN
    assert REDACTION.restore(HIDDEN, body, content_type) == body
    assert Redaction(()).body(body, content_type) == body.decode()


@pytest.mark.parametrize(
    ("body", "content_type", "shown"),
    [
        (b"Token=s3cret&b=1", "Application/X-WWW-Form-Urlencoded", f"Token={HIDDEN}&b=1"),
        (DOCUMENT, " Application/Problem+JSON", f'"password": "{HIDDEN}"'),
        (b"a=1&data=%5B" + DOCUMENT + b"%5D", FORM, f"a=1&data={HIDDEN}"),
        (json.dumps({"a": DOCUMENT.decode()}).encode(), JSON, f'"a": "{HIDDEN}"'),
        (b'{"note":"a new password"}', JSON, '"note": "a new password"'),
    ],
)
def test_a_media_type_has_no_case_and_documents_may_be_in_values(
    body: bytes, content_type: str, shown: str
) -> None:
    """What can be looked through shows all else, and is the body again if nothing is edited."""
    text = REDACTION.body(body, content_type)
    assert text is not None
    assert shown in text
    assert "s3cret" not in text
    assert REDACTION.restore(text, body, content_type) == body
    assert REDACTION.restore(text.replace("=1", "=5"), body, content_type) == body.replace(
        b"=1", b"=5"
    )


def test_what_is_no_text_is_not_shown() -> None:
    """Bytes that are no UTF-8 have no text, nor has what is in UTF-16."""
    assert REDACTION.body(b"\xff\xfe", "image/png") is None
    assert REDACTION.body(DOCUMENT.decode().encode("utf-16-le"), JSON) is None


@pytest.mark.parametrize("depth", [1000, 5000])
def test_json_that_is_too_deep_to_look_through_is_hidden(depth: int) -> None:
    """As a whole, because a hidden value may be in it; unedited it stays what it was."""
    body = f'{{"token":"s3cret","x":{"[" * depth}{"]" * depth}}}'.encode()
    assert REDACTION.body(body, JSON) == REDACTION.line(body, JSON) == HIDDEN
    assert REDACTION.restore(HIDDEN, body, JSON) == body


def test_an_edit_that_is_too_deep_is_refused() -> None:
    """With a sentence, as any other that cannot be read."""
    with pytest.raises(ValueError, match="nested too deeply"):
        REDACTION.restore("[" * 100_000 + "]" * 100_000, b"{}", JSON)


@pytest.mark.parametrize(
    ("body", "content_type", "shown"),
    [
        (b"to=ana%40example.com&subject=A+%26+B&t%6fken=s", FORM, "to=ana@example.com, subject=A"),
        (b"a=1&a=2&empty=&bare", FORM, "a=1, a=2, empty=, bare"),
        (b'{"to":"ana","n":1.10,"token":{"a":1},"x":[1,null]}', JSON, 'to="ana", n=1.10, token='),
        (b'[1, {"token":"s"}]', JSON, f'[1,{{"token":"{HIDDEN}"}}]'),
        (b"{broken", JSON, "{broken"),
        (b"a\nb \x1b[31mc\xe2\x80\xae", "text/plain", "a b [31mc"),
        (b"", FORM, ""),
    ],
)
def test_a_line_is_a_body_as_arguments(body: bytes, content_type: str, shown: str) -> None:
    """Decoded, without control characters and without hidden values."""
    line = REDACTION.line(body, content_type)
    assert line is not None
    assert line.startswith(shown)
    assert line.isprintable()
    assert "token=s" not in line


def test_a_line_is_short() -> None:
    """160 characters; there is none of a body that is binary, or long to read."""
    assert len(REDACTION.line(b"x" * READ_FOR_LINE, "text/plain") or "") == 160
    assert REDACTION.line(b"x" * (READ_FOR_LINE + 1), "text/plain") is None
    assert REDACTION.line(b"\xff", FORM) is None
    assert REDACTION.line(b"--x", "multipart/form-data; boundary=x") == HIDDEN


def test_numbers_keep_their_digits() -> None:
    """Large and long numbers are shown as they were written, not as a float has them."""
    text = REDACTION.body(
        b'{"a":12345678901234567890,"b":1.10,"c":1e400,"d":0.30000000000000004}', JSON
    )
    assert text is not None
    for digits in ("12345678901234567890", "1.10", "1e400", "0.30000000000000004"):
        assert f": {digits}" in text


@pytest.mark.parametrize(
    ("body", "content_type"),
    [(b"a=1&token=s3cret&b=2", FORM), (b'{"a":1.10,"token":"s3cret","n":[{"token":7}]}', JSON)],
)
def test_a_text_that_was_not_edited_is_the_body(body: bytes, content_type: str) -> None:
    """What is hidden gets its value back."""
    text = REDACTION.body(body, content_type)
    assert text is not None
    assert REDACTION.restore(text, body, content_type) == body
    assert REDACTION.restore(text.replace("1", "5", 1), body, content_type) == body.replace(
        b"1", b"5", 1
    )


def test_malformed_json_is_no_edit() -> None:
    """A body that was JSON stays JSON."""
    with pytest.raises(ValueError, match="Expecting"):
        REDACTION.restore("{", b"{}", JSON)


def test_urls_and_headers() -> None:
    """Query values by their names, user information always."""
    assert (
        REDACTION.url("https://ana:pw@host/p?token=s3cret&a=1")
        == f"https://host/p?token={HIDDEN}&a=1"
    )
    assert REDACTION.headers({"Authorization": "Bearer x", "X-A": "b"}) == {
        "Authorization": HIDDEN,
        "X-A": "b",
    }
    assert json.dumps(REDACTION.url("/plain"))
