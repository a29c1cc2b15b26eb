"""Google Cloud Tasks' API, for code and tools that speak it.

The service carries out each rpc. It is reached by REST, by gRPC, and in process by a channel. An
app that uses none of them imports nothing but this and `check_installed`.
"""

from .installed import check_installed

__all__ = ["check_installed"]
