"""Google Cloud Tasks' API, for code and tools that speak it.

The service carries out each rpc. It is reached by REST, by gRPC, and in process by a channel.
"""

from .installed import check_installed
from .mounting import mount
from .service import CloudTasks

__all__ = ["CloudTasks", "check_installed", "mount"]
