"""Encryption of the contents of tasks in the tables.

An encrypted value is a mark, eight characters that name its key, and a token of Fernet (AES-128-CBC
and HMAC-SHA256). A value without the mark is plain, so rows from before encryption was set up can
still be read. The store holds either as it is; values are encrypted where they are inserted and
decrypted where they are used.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ..errors import ConfigurationError, DecryptionError
from ..states import Record

if TYPE_CHECKING:
    from cryptography.fernet import Fernet


MARK = b"taskqueue-sealed:"
_TEXT_MARK = MARK.decode()
_NAMED = len(MARK) + 9


class Encryption:
    """A cipher: it encrypts with its newest key, decrypts with any; without keys it is inactive."""

    def __init__(self, keys: Sequence[str] = ()) -> None:
        """Take Fernet keys, newest first.

        Raises `ConfigurationError` if the extra is not installed.
        """
        self._keys: Mapping[bytes, Fernet] = {_name(key): _fernet(key) for key in keys}
        self._newest = next(iter(self._keys), b"")
        self._prefix = MARK + self._newest + b":"

    def __repr__(self) -> str:
        return f"<Encryption {b', '.join(self._keys).decode() or 'without keys'}>"

    @property
    def is_enabled(self) -> bool:
        """Whether there is a key to encrypt with."""
        return bool(self._keys)

    def encrypt(self, plain: bytes) -> bytes:
        """Return the value as it is stored."""
        return self._prefix + self._keys[self._newest].encrypt(plain) if self._newest else plain

    def encrypt_text(self, plain: str | None) -> str | None:
        """Return the text as it is stored; None for None."""
        return (
            self.encrypt(plain.encode()).decode() if self._newest and plain is not None else plain
        )

    def decrypt(self, stored: bytes) -> bytes:
        """Return the value as it was before it was stored.

        Raises `DecryptionError` for a value of another key, and for one that was changed.
        """
        if not stored.startswith(MARK):
            return stored
        name = stored[len(MARK) : _NAMED - 1]
        if name not in self._keys:
            shown = name.decode("ascii", "replace")
            raise DecryptionError(
                f"it is encrypted by key {shown!r}, which is not among TASKQUEUE_ENCRYPTION_KEYS"
            )
        from cryptography.fernet import InvalidToken

        try:
            return self._keys[name].decrypt(stored[_NAMED:])
        except InvalidToken as error:
            raise DecryptionError("it is encrypted, and has been changed since") from error

    def decrypt_text(self, stored: str | None) -> str | None:
        """Return the text as it was before it was stored.

        What is no text, such as bytes that SQLite keeps in place of one, is returned as it is.
        Raises `DecryptionError` for a text of another key, and for one that was changed.
        """
        if not isinstance(stored, str) or not stored.startswith(_TEXT_MARK):
            return stored
        return self.decrypt(stored.encode()).decode()

    def decrypt_record(self, record: Record) -> Record:
        """Return a row with its body, headers and follow-up decrypted.

        Raises `DecryptionError`.
        """
        body, headers, follow_up = record.body, record.headers, record.follow_up
        if (
            not self._keys
            and not is_encrypted(body)
            and not is_encrypted(headers)
            and not is_encrypted(follow_up)
        ):
            return record
        return record._replace(
            body=self.decrypt(body) if isinstance(body, bytes) else body,
            headers=self.decrypt_text(headers),
            follow_up=self.decrypt_text(follow_up),
        )

    def is_current(self, stored: bytes | str | None) -> bool:
        """Return whether a value is encrypted with the newest key, or is None."""
        if isinstance(stored, bytes):
            return stored.startswith(self._prefix)
        return stored is None or stored.startswith(self._prefix.decode())


def is_encrypted(stored: bytes | str | None) -> bool:
    """Return whether a value is encrypted."""
    return (isinstance(stored, bytes) and stored.startswith(MARK)) or (
        isinstance(stored, str) and stored.startswith(_TEXT_MARK)
    )


def _name(key: str) -> bytes:
    """Return the public name of a key, which reveals nothing of a random key."""
    return hashlib.sha256(key.encode()).hexdigest()[:8].encode()


def _fernet(key: str) -> Fernet:
    try:
        from cryptography.fernet import Fernet
    except ImportError as error:
        raise ConfigurationError(
            "TASKQUEUE_ENCRYPTION_KEYS needs cryptography: pip install Flask-TaskQueue[encryption]"
        ) from error
    return Fernet(key)
