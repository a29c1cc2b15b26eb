"""URLs of tasks: paths of the application, and absolute URLs."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from .errors import InvalidUrlError

MAX_LENGTH = 2083
_PRINTABLE = re.compile(r"[\x21-\x7e]*")
_HOST = re.compile(r"[a-z0-9_.-]{1,253}|[0-9a-f:.]+", re.ASCII)
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


def is_absolute(url: str) -> bool:
    """Whether a URL has a scheme, so that it is not a path."""
    return _SCHEME.match(url) is not None


def check_path(url: str) -> str:
    """A path, which may have a query. Raises `InvalidUrlError`."""
    if not isinstance(url, str) or not url.startswith("/") or url.startswith("//"):
        raise InvalidUrlError(f"url {redacted(url)!r} must be a path that begins with one slash, such as '/worker'")
    _check_characters(url)
    return str.__str__(url)


def check_absolute(url: str) -> tuple[str, int]:
    """The host, in lower case and without brackets, and the port of an absolute URL that can be sent. Raises `InvalidUrlError`."""
    _check_characters(url)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InvalidUrlError(f"url {redacted(url)!r} cannot be read: {error}") from error
    host = (parts.hostname or "").removesuffix(".")
    if parts.scheme not in ("http", "https") or not host:
        raise InvalidUrlError(f"url {redacted(url)!r} must begin with http:// or https:// and a host")
    if parts.username is not None or parts.password is not None:
        raise InvalidUrlError(f"url {redacted(url)!r} holds user information; send it in a header")
    if not _HOST.fullmatch(host):
        raise InvalidUrlError(f"url {redacted(url)!r} has a host that is neither a name nor an address")
    return host, port or (443 if parts.scheme == "https" else 80)


def redacted(url: str) -> str:
    """A URL for logs: without user information, query and fragment, in which secrets are."""
    text = str(url).partition("?")[0].partition("#")[0]
    scheme, mark, rest = text.partition("://")
    if not mark:
        return text
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"


def _check_characters(url: str) -> None:
    if len(url) > MAX_LENGTH:
        raise InvalidUrlError(f"the url has {len(url)} characters; it may have {MAX_LENGTH}")
    if not _PRINTABLE.fullmatch(url):
        raise InvalidUrlError(f"url {redacted(url)!r} holds characters that must be percent-encoded: use urllib.parse.quote")
    if "#" in url:
        raise InvalidUrlError(f"url {redacted(url)!r} has a fragment, which is never sent: leave it out")
    if "\\" in url:
        raise InvalidUrlError(f"url {redacted(url)!r} holds a backslash: percent-encode it as %5C")
