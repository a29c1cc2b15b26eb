"""Strikes: `DeadlineExceeded` raised in another thread, exactly where it was judged harmless."""

import sys

if sys.version_info >= (3, 12):
    from .watched import Watched as AnyStrike
else:
    from .sent import Sent as AnyStrike

__all__ = ["AnyStrike"]
