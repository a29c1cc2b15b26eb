"""Checks of configuration values.

Each takes the key and the value, and returns the value or raises an error that says what the value
must be.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, NoReturn

from ..durations import seconds
from ..errors import ConfigurationError, InvalidTaskRetryOptionsError, InvalidUrlError, shown
from ..queues.rates import parse_rate
from ..retry import RetryOptions
from ..urls import check_absolute
from .hosts import AllowedHost

Check = Callable[[str, Any], Any]

_USER_INFORMATION = re.compile(r"://[^\s'\"]*(?:@|…$)")
"""What may be user information in a repr; where `shown` has cut it, that cannot be known."""
_SURROGATE = re.compile("[\ud800-\udfff]")  # an environment variable that is not UTF-8 has some
_LOCATION = re.compile(r"projects/[A-Za-z0-9.:_-]+/locations/[A-Za-z0-9_-]+", re.ASCII)
_MODULE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
_ORIGIN = re.compile(r"https?://[^/]*")
_FERNET_KEY = re.compile(r"[A-Za-z0-9_-]{43}=", re.ASCII)


def refuse(key: str, value: object, wanted: str) -> NoReturn:
    """Raise an error that says what a value must be, without the user information of URLs."""
    told = _USER_INFORMATION.sub("://", shown(value))
    raise ConfigurationError(f"{key} is {told}; it must be {wanted}")


def nearest(word: object, known: Collection[str]) -> str:
    """Return a hint at the known word that an unknown word may have meant."""
    matches = difflib.get_close_matches(str(word), known, n=1, cutoff=0.5)
    return f"; did you mean {matches[0]}?" if matches else f"; there are {', '.join(sorted(known))}"


def text(key: str, value: Any) -> str:
    """Check a text, which must not be empty and holds no NUL."""
    if not isinstance(value, str) or not value or "\0" in value or _SURROGATE.search(value):
        refuse(key, value, "a text")
    return value


def boolean(key: str, value: Any) -> bool:
    """Check a boolean."""
    return value if isinstance(value, bool) else refuse(key, value, "True or False")


def _matching(pattern: re.Pattern[str], wanted: str) -> Check:
    return lambda key, value: (
        value if isinstance(value, str) and pattern.fullmatch(value) else refuse(key, value, wanted)
    )


path = _matching(re.compile(r"(/[\w.~-]+)+", re.ASCII), "a path such as '/taskqueue/metrics'")
"""Check a path of the app."""


def token(key: str, value: Any) -> str:
    """Check a token that is sent in a header; it is never shown."""
    if not isinstance(value, str) or not re.fullmatch(r"[\x21-\x7e]{16,}", value):
        raise ConfigurationError(
            f"{key} must be a text of at least 16 printable characters, without blanks"
        )
    return value


def one_of(*choices: str) -> Check:
    """Return a check for one of some words."""
    wanted = " or ".join(map(repr, choices))
    return lambda key, value: value if value in choices else refuse(key, value, wanted)


def count(low: int, high: int) -> Check:
    """Return a check for a whole number within limits."""

    def check(key: str, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            refuse(key, value, f"a whole number from {low} to {high}")
        return value

    return check


def count_or_all(key: str, value: Any) -> float:
    """Check a whole number from 1, or infinity."""
    if value == math.inf:
        return math.inf
    return count(1, 1_000_000)(key, value)  # type: ignore[no-any-return]


def duration(low: float, high: float) -> Check:
    """Return a check for seconds within limits, also as a text such as "10m"."""

    def check(key: str, value: Any) -> float:
        number = seconds(value, what=key)
        if not low <= number <= high:
            most = f"to {high:.15g} seconds" if high < math.inf else "seconds upwards"
            refuse(key, value, f"a duration from {low:.15g} {most}")
        return number

    return check


def rate(key: str, value: Any) -> float:
    """Return the tasks per second of a rate such as "20/m"."""
    return parse_rate(value, what=key)


def _is_list(value: object) -> bool:
    return isinstance(value, Collection) and not isinstance(value, str | bytes | Mapping)


location = _matching(_LOCATION, "a name such as 'projects/my-project/locations/us-central1'")
"""Check the name of a location of Google's."""


def _each(key: str, value: Any, check: Check, wanted: str) -> tuple[Any, ...]:
    """Check each item of a list, so that the error names the one that is wrong."""
    if not _is_list(value):
        refuse(key, value, f"a list of {wanted}")
    return tuple(check(f"{key}[{number}]", item) for number, item in enumerate(value))


def allowed_hosts(key: str, value: Any) -> tuple[AllowedHost, ...]:
    """Check a list of hosts."""
    such_as = "such as 'api.example.com', '*.example.com', '10.0.0.5:8080' or '10.1.0.0/16'"

    def host(key: str, value: Any) -> AllowedHost:
        try:
            return AllowedHost.parse(value if isinstance(value, str) else "")
        except ValueError:
            refuse(key, value, f"a host, {such_as}")

    return _each(key, value, host, f"hosts, {such_as}")


def ports(key: str, value: Any) -> tuple[int, ...]:
    """Check a list of ports."""
    return _each(key, value, count(1, 65_535), "ports, such as [80, 443, 8443]")


def texts(key: str, value: Any) -> tuple[str, ...]:
    """Check a list of texts."""
    return _each(key, value, text, "texts")


def modules(key: str, value: Any) -> tuple[str, ...]:
    """Check a list of modules' names."""
    module = _matching(_MODULE, "the name of a module, such as 'shop.mail'")
    return _each(key, value, module, "the names of modules, such as ['shop.mail', 'lib']")


def function(key: str, value: object) -> Callable[..., Any]:
    """Check that a value can be called."""
    return value if callable(value) else refuse(key, value, "a function without parameters")


def some_of(*choices: str) -> Check:
    """Return a check for a list of some words, each at most once."""

    def check(key: str, value: Any) -> tuple[str, ...]:
        given = (value,) if isinstance(value, str) else value
        if (
            not _is_list(given)
            or not given
            or not all(isinstance(item, str) for item in given)
            or not set(given) <= set(choices)
            or len(set(given)) < len(given)
        ):
            refuse(key, value, f"a list of some of {', '.join(map(repr, choices))}, each once")
        return tuple(given)

    return check


def secret(key: str, value: Any) -> bytes:
    """Check a secret; it is never shown."""
    if isinstance(value, str) and not _SURROGATE.search(value):
        value = value.encode()
    if not isinstance(value, bytes) or len(value) < 16:
        raise ConfigurationError(f"{key} must be a text or bytes of at least 16 characters")
    return value


def password(key: str, value: Any) -> str:
    """Check a password; it is never shown."""
    if not isinstance(value, str) or len(value) < 8:
        raise ConfigurationError(f"{key} must be a text of at least 8 characters")
    return value


def url_prefix(key: str, value: Any) -> str:
    """Check a path under which pages are served."""
    if (
        not isinstance(value, str)
        or not value.startswith("/")
        or len(value) < 2
        or any(character in value for character in "<>?#\\")
        or "//" in value
    ):
        refuse(key, value, "a path such as '/taskqueue'")
    return value.rstrip("/")


def url_prefix_or_root(key: str, value: Any) -> str:
    """Check a path under which routes are served; an empty text is the root."""
    return "" if value in ("", "/") else url_prefix(key, value)


def origins(key: str, value: Any) -> tuple[str, ...]:
    """Check a list of origins: scheme and host, nothing else."""
    origin = _matching(_ORIGIN, "an origin, such as 'https://admin.example.com'")
    given = _each(key, value, origin, "origins, such as ['https://admin.example.com']")
    return tuple(item.lower() for item in given)


def encryption_keys(key: str, value: Any) -> tuple[str, ...]:
    """Check a list of Fernet keys; they are never shown."""
    given = (
        [
            given_key.decode("latin-1") if isinstance(given_key, bytes) else given_key
            for given_key in value
        ]
        if isinstance(value, list | tuple)
        else [None]
    )
    if not all(
        isinstance(given_key, str) and _FERNET_KEY.fullmatch(given_key) for given_key in given
    ):
        raise ConfigurationError(
            f"{key} must be a list of Fernet keys: 32 random bytes each, in URL-safe base64, "
            "newest first"
        )
    return tuple(map(str, given))


def private_keys(key: str, value: Any) -> tuple[str, ...]:
    """Check private keys in PEM, one or several; they are never shown."""
    given = [value] if isinstance(value, str) else value
    if (
        not _is_list(given)
        or not given
        or not all(isinstance(pem, str) and "PRIVATE KEY-----" in pem for pem in given)
    ):
        raise ConfigurationError(
            f"{key} must be an RSA key in PEM, as openssl genrsa makes it, or a list of them, "
            "newest first"
        )
    return tuple(given)


def base_url(key: str, value: Any) -> str:
    """Check a URL that paths can be appended to."""
    wanted = (
        "a URL such as 'https://app.example.com', with a host and a port that there can be, "
        "without user, query and fragment"
    )
    if not isinstance(value, str) or "?" in value:
        refuse(key, value, wanted)
    try:
        check_absolute(value)
    except InvalidUrlError:
        refuse(key, value, wanted)
    return value.rstrip("/")


def retry(key: str, value: Any) -> RetryOptions:
    """Return retry options, given as such or as a mapping of their names."""
    try:
        options = RetryOptions.of(value)
    except (InvalidTaskRetryOptionsError, TypeError) as error:
        raise ConfigurationError(f"{key}: {error}") from error
    return (
        options
        if options is not None
        else refuse(key, value, "RetryOptions or a mapping of their names")
    )


def mapping_of(known: Mapping[str, Check], place: str, given: Any) -> dict[str, Any]:
    """Return a mapping with its values checked; each of its keys must be known."""
    if not isinstance(given, Mapping):
        refuse(place, given, "a mapping of settings, {} for none")
    for name in given:
        if name not in known:
            raise ConfigurationError(f"{place} has no setting {name!r}{nearest(name, known)}")
    return {
        name: known[name](f"{place}[{name!r}]", value)
        for name, value in given.items()
        if value is not None
    }
