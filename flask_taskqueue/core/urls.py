"""URLs of tasks: paths of the application, and absolute URLs on hosts that are allowed."""

from __future__ import annotations

import re
from collections.abc import Collection
from urllib.parse import SplitResult, urlsplit

from .errors import InvalidUrlError

MAX_LENGTH = 2083
_PRINTABLE = re.compile(r"[\x21-\x7e]*")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


def is_absolute(url: str) -> bool:
    """Whether a URL has a scheme, so that it is not a path."""
    return _SCHEME.match(url) is not None


def check_path(url: str) -> str:
    """A path, which may have a query. Raises `InvalidUrlError`."""
    if not isinstance(url, str) or not url.startswith("/") or url.startswith("//"):
        raise InvalidUrlError(f"url {url!r} must be a path that begins with one slash, such as '/worker'")
    _check_characters(url)
    return url


def check_absolute(url: str, allowed_hosts: Collection[str]) -> str:
    """An absolute URL whose host is allowed. Raises `InvalidUrlError`.

    An allowed host is a name, a name with a port, or ``*.`` and a name for its subdomains.
    """
    _check_characters(url)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InvalidUrlError(f"url {redacted(url)!r} cannot be read: {error}") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidUrlError(f"url {redacted(url)!r} must begin with http:// or https:// and a host")
    if parts.username is not None or parts.password is not None:
        raise InvalidUrlError(f"url {redacted(url)!r} holds user information; send it in a header")
    if not _is_allowed(parts, port, allowed_hosts):
        raise InvalidUrlError(f"host {parts.hostname!r} is not allowed: add it to TASKQUEUE_ALLOWED_HOSTS")
    return url


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


def _is_allowed(parts: SplitResult, port: int | None, allowed_hosts: Collection[str]) -> bool:
    host = (parts.hostname or "").rstrip(".")
    names = {host, f"{host}:{port}" if port else f"{host}:{443 if parts.scheme == 'https' else 80}"}
    bracketed = {f"[{host}]", f"[{host}]:{port}"} if ":" in host else set()
    return any(one.lower() in names | bracketed or (one.startswith("*.") and host.endswith(one[1:].lower())) for one in allowed_hosts)
