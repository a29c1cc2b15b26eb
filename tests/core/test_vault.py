"""Values that are sealed, and opened again."""

from __future__ import annotations

import sys

import pytest
from cryptography.fernet import Fernet
from hypothesis import assume, given
from hypothesis import strategies as st

from flask_taskqueue.core.errors import ConfigurationError, DecryptionError
from flask_taskqueue.core.security.encryption import MARK, Vault, is_sealed
from flask_taskqueue.core.settings.app import Settings

OLD, NEW = (Fernet.generate_key().decode() for _ in range(2))
VAULT = Vault([NEW, OLD])


@given(st.binary(), st.text(st.characters(exclude_categories=["Cs"])))
def test_what_is_sealed_is_opened_again(plain: bytes, text: str) -> None:
    """Any bytes and any text, those that look sealed too; plain ones are what they are."""
    assume(not plain.startswith(MARK))
    assert VAULT.open(VAULT.seal(MARK + plain)) == MARK + plain
    assert VAULT.open_text(VAULT.seal_text(text)) == text
    assert not is_sealed(plain)
    assert VAULT.open(plain) == Vault().seal(plain) == Vault().open(plain) == plain
    assert VAULT.seal_text(None) is None


def test_the_newest_key_seals_and_every_key_opens() -> None:
    """A value says by what it was sealed."""
    old, new = Vault([OLD]).seal(b"x"), VAULT.seal(b"x")
    assert (VAULT.open(old), VAULT.open(new)) == (b"x", b"x")
    assert (
        VAULT.is_current(old),
        VAULT.is_current(new),
        VAULT.is_current(b"x"),
        VAULT.is_current(None),
    ) == (False, True, False, True)


def test_what_cannot_be_opened_says_why() -> None:
    """A key that is not there by its name, a value that was changed; never a part of the value."""
    sealed = VAULT.seal(b"secret")
    for vault in (Vault([OLD]), Vault()):
        with pytest.raises(
            DecryptionError,
            match=r"encrypted by key '[0-9a-f]{8}', which is not among TASKQUEUE_ENCRYPTION_KEYS",
        ):
            vault.open(sealed)
    for changed in (
        sealed[:-1],
        sealed[:-9] + (b"B" if sealed[-9:-8] == b"A" else b"A") + sealed[-8:],
        MARK,
        MARK + b"x",
        sealed[: len(MARK) + 9] + b"\xff",
    ):
        with pytest.raises(DecryptionError):
            VAULT.open(changed)


def test_keys_are_checked_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not in errors and not in a repr; without the package the error says what to install."""
    for wrong in (NEW, [NEW[:-2]], [NEW, 5], {"a": NEW}):
        with pytest.raises(ConfigurationError, match="list of Fernet keys") as caught:
            Settings.of({"TASKQUEUE_ENCRYPTION_KEYS": wrong})
        assert NEW[:20] not in str(caught.value)
    settings = Settings.of({"TASKQUEUE_ENCRYPTION_KEYS": [NEW.encode(), OLD]})
    assert settings.encryption_keys == (NEW, OLD)
    assert NEW not in repr(settings) + repr(VAULT)
    monkeypatch.setitem(sys.modules, "cryptography.fernet", None)
    with pytest.raises(ConfigurationError, match=r"pip install Flask-TaskQueue\[encryption\]"):
        Vault([NEW])
    assert not Vault().seals
