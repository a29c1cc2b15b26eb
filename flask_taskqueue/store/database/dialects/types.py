"""Column types that mean the same in every database."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

MICROS = sa.BigInteger()
"""The type of an instant: microseconds since 1970 in UTC."""

TEXT = sa.Text().with_variant(mysql.TEXT(charset="utf8mb4"), "mysql", "mariadb")
LONG_TEXT = sa.Text().with_variant(mysql.MEDIUMTEXT(charset="utf8mb4"), "mysql", "mariadb")
BODY = sa.LargeBinary().with_variant(mysql.LONGBLOB(), "mysql", "mariadb")
SECONDS: sa.Double[float] = sa.Double()


def words(length: int) -> sa.types.TypeEngine[str]:
    """Return the type of a short text for people, in any language."""
    return sa.String(length).with_variant(
        mysql.VARCHAR(length, charset="utf8mb4"), "mysql", "mariadb"
    )


def token(length: int) -> sa.types.TypeEngine[str]:
    """Return the type of a short ASCII text, compared byte by byte: ``Mail`` is not ``mail``."""
    ascii_text = mysql.VARCHAR(length, charset="ascii", collation="ascii_bin")
    return sa.String(length).with_variant(ascii_text, "mysql", "mariadb")


def exact(length: int) -> sa.types.TypeEngine[str]:
    """Return the type of a short text in any language, compared character by character."""
    text = mysql.VARCHAR(length, charset="utf8mb4", collation="utf8mb4_bin")
    return sa.String(length).with_variant(text, "mysql", "mariadb")
