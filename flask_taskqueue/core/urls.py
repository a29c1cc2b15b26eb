"""The URLs of tasks: paths of the app, and absolute URLs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import lru_cache
from urllib.parse import quote, unquote_to_bytes, urlsplit

from .errors import InvalidUrlError

MAX_LENGTH = 2083
_PRINTABLE = re.compile(r"[\x21-\x7e]*")
_HOST = re.compile(r"[a-z0-9_.-]{1,253}|[0-9a-f:.]+", re.ASCII)
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_ORIGIN = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*:)?(?://[^/?]*)?")
_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}|[^A-Za-z0-9._~!$&'()*+,;=:@/?-]")
_PLAIN = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


def is_absolute(url: str) -> bool:
    """Return whether a URL has a scheme, so that it is not a path."""
    # In SQLite a row may hold bytes; they must end their own task, and keep no other waiting.
    return _SCHEME.match(str(url)) is not None


def leads_out(url: str, target: str | None) -> bool:
    """Return whether a task goes to another host rather than to a route of the application."""
    return target is not None or is_absolute(url)


def no_url(given: object) -> InvalidUrlError:
    """Return the error for a value that should be a URL but is not text.

    For a list of tasks, it says where lists belong; for a function, what makes it a task.
    """
    if isinstance(given, Iterable) and not isinstance(given, bytes | Mapping):
        return InvalidUrlError(
            "add() stores one task. For several, tasks.add_many(tasks) takes any number and "
            "returns how many were added; "
            "tasks.queue(name).add([...]) takes a list of up to 1,000, in one transaction, "
            "and returns each as a Task"
        )
    if hasattr(given, "enqueue"):
        name = getattr(given, "__name__", None)
        return InvalidUrlError(
            "what options() returns adds its tasks itself: call .add(...) on it"
            if name is None
            else f"{name} is a task function: call {name}.enqueue(...)"
        )
    if callable(given):
        name = getattr(given, "__name__", repr(given))
        return InvalidUrlError(
            f"{name} is neither a worker nor a task function: decorate it with @tasks.task and "
            f"call {name}.enqueue(...), or give it a URL with @tasks.worker(url)"
        )
    return InvalidUrlError(
        f"the url is {given!r}; it must be a path, an absolute URL, an endpoint name or a worker"
    )


def check_path(url: str) -> str:
    """Return a path, which may have a query, in its `normal` form. Raises `InvalidUrlError`."""
    if not isinstance(url, str) or not url.startswith("/"):
        raise InvalidUrlError(
            f"url {redacted(url)!r} must be a path that begins with one slash, such as '/worker'"
        )
    return _path(url)


@lru_cache(1024)  # most tasks have one of a few paths
def _path(url: str) -> str:
    path = normal(url)
    if path.startswith("//"):
        raise InvalidUrlError(
            f"url {redacted(url)!r} must be a path that begins with one slash, such as '/worker'"
        )
    _check_text(path.partition("?")[0])
    return path


def normal(url: str) -> str:
    """Return the form in which a URL is stored, signed and sent, so that nothing rewrites it.

    It is the normal form of RFC 3986 (6.2.2). Characters that have to be escaped are escaped, in
    capitals, and no others are; a ``%`` that begins no escape stands for itself; the parts ``.``
    and ``..`` of the path are resolved. Apart from these, an app receives the same path and the
    same parameters. Raises `InvalidUrlError` if it is not a URL.
    """
    _check_characters(url)
    origin = "" if url.startswith("/") else _ORIGIN.match(url)[0]  # type: ignore[index]
    path, mark, query = str.__str__(url)[len(origin) :].partition("?")
    found = (
        origin + _without_dots(_ESCAPE.sub(_escaped, path)) + mark + _ESCAPE.sub(_escaped, query)
    )
    if len(found) > MAX_LENGTH:
        raise InvalidUrlError(
            f"with its characters escaped the url has {len(found)} characters; it may have "
            f"{MAX_LENGTH}"
        )
    return found


def as_seen(path: bytes, query: str) -> str:
    """Return the part of a URL that a signature is bound to, as every server passes it on.

    The path is unescaped, the query is not. If a path begins with several slashes, some servers,
    and werkzeug, leave one of them.
    """
    return f"/{quote(path.lstrip(b'/'))}?{query}"


def as_sent(url: str) -> str:
    """Return the same part of a URL whose path and query are as they are sent."""
    path, _, query = url.partition("?")
    return as_seen(unquote_to_bytes(path), query)


def check_absolute(url: str) -> tuple[str, int]:
    """Return the host and the port of an absolute URL that can be sent.

    The host is in lower case and without brackets. Raises `InvalidUrlError`.
    """
    _check_characters(url)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InvalidUrlError(f"url {redacted(url)!r} cannot be read: {error}") from error
    host = (parts.hostname or "").removesuffix(".")
    if parts.scheme not in ("http", "https") or not host:
        raise InvalidUrlError(
            f"url {redacted(url)!r} must begin with http:// or https:// and a host"
        )
    if parts.username is not None or parts.password is not None:
        raise InvalidUrlError(f"url {redacted(url)!r} holds user information; send it in a header")
    if not _HOST.fullmatch(host):
        raise InvalidUrlError(
            f"url {redacted(url)!r} has a host that is neither a name nor an address"
        )
    return host, port or (443 if parts.scheme == "https" else 80)


def receiver_of(url: str) -> str:
    """Return host and port of an absolute URL, which identify a receiver. Raises `InvalidUrlError`.

    >>> receiver_of("https://Example.com/hook"), receiver_of("http://[::1]:8000")
    ('example.com:443', '[::1]:8000')
    """
    host, port = check_absolute(url)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def named_receiver(target: str) -> str:
    """Return the receiver that a URL, or a host and port, names.

    Raises `InvalidUrlError` for anything else.

    >>> named_receiver("https://example.com/hook"), named_receiver("example.com:8443")
    ('example.com:443', 'example.com:8443')
    """
    if "://" in target:
        return receiver_of(target)
    receiver = None
    with suppress(InvalidUrlError):
        receiver = receiver_of(f"https://{target}")
    if receiver is None or target.lower() != receiver:
        raise InvalidUrlError(
            f"target {target!r} must be the URL that tasks are sent to, such as "
            "'https://example.com/hook', or a host and a port, such as 'example.com:443'"
        )
    return receiver


def as_host(text: str) -> str:
    """Return a receiver, or a Host header, in a form in which the two can be compared.

    It has no port if that is the usual one.
    """
    return text.lower().removesuffix(":80").removesuffix(":443").removesuffix(".")


def redacted(url: str) -> str:
    """Return a URL for logs, without user information, query and fragment: they may be secret."""
    text = str(url).partition("?")[0].partition("#")[0]
    scheme, mark, rest = text.partition("://")
    if not mark:
        return text
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"


def _escaped(match: re.Match[str]) -> str:
    found = match[0]
    if len(found) == 1:
        return f"%{ord(found):02X}"
    character = chr(int(found[1:], 16))
    return character if character in _PLAIN else found.upper()


def _without_dots(path: str) -> str:
    """Return a path without parts ``.`` and ``..`` (RFC 3986, 5.2.4)."""
    if "/." not in path:
        return path
    parts = path.split("/")
    kept: list[str] = []
    for part in parts[1:]:
        if part == "..":
            del kept[-1:]
        elif part != ".":
            kept.append(part)
    if parts[-1] in (".", ".."):
        kept.append("")
    return "/" + "/".join(kept)


def _check_text(path: str) -> None:
    """Raise for a path that an app would not receive as it was sent.

    ASGI servers and werkzeug take a path for UTF-8, and proxies answer a NUL themselves.
    """
    try:
        text = unquote_to_bytes(path).decode()
    except UnicodeDecodeError as error:
        raise InvalidUrlError(
            f"url {redacted(path)!r} has bytes in its path that are no UTF-8: use "
            "urllib.parse.quote on text"
        ) from error
    if "\0" in text:
        raise InvalidUrlError(
            f"url {redacted(path)!r} has a NUL (%00) in its path, which proxies refuse"
        )


def _check_characters(url: str) -> None:
    if len(url) > MAX_LENGTH:
        raise InvalidUrlError(f"the url has {len(url)} characters; it may have {MAX_LENGTH}")
    if not _PRINTABLE.fullmatch(url):
        if not _ORIGIN.match(url)[0].isascii():  # type: ignore[index]
            raise InvalidUrlError(
                f"url {redacted(url)!r} has a host that is not ASCII: give the name that it has in "
                "DNS, which holds xn--"
            )
        raise InvalidUrlError(
            f"url {redacted(url)!r} holds characters that must be percent-encoded: use "
            "urllib.parse.quote"
        )
    if "#" in url:
        raise InvalidUrlError(
            f"url {redacted(url)!r} has a fragment, which is never sent: leave it out"
        )
    if "\\" in url:
        raise InvalidUrlError(f"url {redacted(url)!r} holds a backslash: percent-encode it as %5C")
