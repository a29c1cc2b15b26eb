"""Values that are encrypted, and decrypted again."""

from __future__ import annotations

import sys

import pytest
from cryptography.fernet import Fernet
from hypothesis import assume, given
from hypothesis import strategies as st

from flask_taskqueue.core.errors import ConfigurationError, DecryptionError
from flask_taskqueue.core.security.encryption import MARK, Encryption, is_encrypted
from flask_taskqueue.core.settings.app import Settings

OLD, NEW = (Fernet.generate_key().decode() for _ in range(2))
ENCRYPTION = Encryption([NEW, OLD])


@given(st.binary(), st.text(st.characters(exclude_categories=["Cs"])))
def test_what_is_encrypted_is_decrypted_again(plain: bytes, text: str) -> None:
    """Any bytes and any text, those that look encrypted too; plain ones are what they are."""
    assume(not plain.startswith(MARK))
    assert ENCRYPTION.decrypt(ENCRYPTION.encrypt(MARK + plain)) == MARK + plain
    assert ENCRYPTION.decrypt_text(ENCRYPTION.encrypt_text(text)) == text
    assert not is_encrypted(plain)
    assert (
        ENCRYPTION.decrypt(plain)
        == Encryption().encrypt(plain)
        == Encryption().decrypt(plain)
        == plain
    )
    assert ENCRYPTION.encrypt_text(None) is None


def test_the_newest_key_encrypts_and_every_key_decrypts() -> None:
    """A value says by which key it was encrypted."""
    old, new = Encryption([OLD]).encrypt(b"x"), ENCRYPTION.encrypt(b"x")
    assert (ENCRYPTION.decrypt(old), ENCRYPTION.decrypt(new)) == (b"x", b"x")
    assert (
        ENCRYPTION.is_current(old),
        ENCRYPTION.is_current(new),
        ENCRYPTION.is_current(b"x"),
        ENCRYPTION.is_current(None),
    ) == (False, True, False, True)


def test_what_cannot_be_decrypted_says_why() -> None:
    """A key that is not there by its name, a value that was changed; never a part of the value."""
    encrypted = ENCRYPTION.encrypt(b"secret")
    for encryption in (Encryption([OLD]), Encryption()):
        with pytest.raises(
            DecryptionError,
            match=r"encrypted by key '[0-9a-f]{8}', which is not among TASKQUEUE_ENCRYPTION_KEYS",
        ):
            encryption.decrypt(encrypted)
    for changed in (
        encrypted[:-1],
        encrypted[:-9] + (b"B" if encrypted[-9:-8] == b"A" else b"A") + encrypted[-8:],
        MARK,
        MARK + b"x",
        encrypted[: len(MARK) + 9] + b"\xff",
    ):
        with pytest.raises(DecryptionError):
            ENCRYPTION.decrypt(changed)


def test_keys_are_checked_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not in errors and not in a repr; without the package the error says what to install."""
    for wrong in (NEW, [NEW[:-2]], [NEW, 5], {"a": NEW}):
        with pytest.raises(ConfigurationError, match="list of Fernet keys") as caught:
            Settings.of({"TASKQUEUE_ENCRYPTION_KEYS": wrong})
        assert NEW[:20] not in str(caught.value)
    settings = Settings.of({"TASKQUEUE_ENCRYPTION_KEYS": [NEW.encode(), OLD]})
    assert settings.encryption_keys == (NEW, OLD)
    assert NEW not in repr(settings) + repr(ENCRYPTION)
    monkeypatch.setitem(sys.modules, "cryptography.fernet", None)
    with pytest.raises(ConfigurationError, match=r"pip install Flask-TaskQueue\[encryption\]"):
        Encryption([NEW])
    assert not Encryption().is_enabled
