"""A gRPC server of the API, for clients that speak nothing else."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import grpc

from ..api.audit import Actor
from ..core.errors import ConfigurationError
from ..core.rpc.status import Code, RpcError
from ..runtime import Runtime
from ..web.access import is_same
from .access import WRONG
from .channel import status_code
from .protos import Method, methods
from .rest import most_bytes
from .service import CloudTasks

_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+):([0-9]{1,5})", re.ASCII)
_THREADS = 16
_WHO = "Cloud Tasks API"


def listen(runtime: Runtime, address: str) -> tuple[grpc.Server, str]:
    """Return a server that listens at ``HOST:PORT``, not started yet, and its address.

    Without ``TASKQUEUE_API_TOKEN`` it answers every program of this machine, and no other host
    than this machine's own can be given. Raises `ConfigurationError` for any other, and if the
    address cannot be used.
    """
    host = _checked(runtime, address)
    limit = most_bytes(runtime.settings.max_body)
    server = grpc.server(
        ThreadPoolExecutor(_THREADS, thread_name_prefix="taskqueue-grpc"),
        handlers=[_Handler(runtime)],
        options=[("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", limit)],
    )
    try:
        port = server.add_insecure_port(address)
    except RuntimeError as error:
        raise ConfigurationError(f"nothing can listen at {address}: {error}") from error
    return server, f"{host}:{port}"


def _checked(runtime: Runtime, address: str) -> str:
    """Return the host of an address that may be listened at."""
    match = _ADDRESS.fullmatch(address)
    if match is None or int(match[2]) > 65_535:
        raise ConfigurationError(
            f"{address!r} is no address to listen at; it must be HOST:PORT, such as 127.0.0.1:8123"
        )
    if runtime.settings.api_token is None and not _is_loopback(match[1].strip("[]")):
        raise ConfigurationError(
            f"{address} can be reached from other machines, and without TASKQUEUE_API_TOKEN "
            "everybody would be answered: set one, or listen at 127.0.0.1"
        )
    return match[1]


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


class _Handler(grpc.GenericRpcHandler):  # type: ignore[misc]
    """The handler of every method; it works on the messages' bytes."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._service = CloudTasks(runtime, transactional=False)

    def service(self, details: Any) -> Any:
        """Return what answers a method; None if it is none of the API's."""
        method = methods().get(details.method)
        if method is None:
            return None
        return grpc.unary_unary_rpc_method_handler(partial(self._answer, method))

    def _answer(self, method: Method, data: bytes, context: Any) -> bytes:
        try:
            self._check(dict(context.invocation_metadata()))
            actor = Actor(_WHO, context.peer())
            with self._runtime.app.app_context():
                return method.write(self._service.call(method.rpc, method.read(data), actor=actor))
        except RpcError as error:
            context.abort(status_code(error), error.message)
            raise  # which abort() has done

    def _check(self, metadata: Mapping[str, str | bytes]) -> None:
        """Raise `RpcError` for a call without the token, if there is one."""
        token = self._runtime.settings.api_token
        if token is None:
            return
        scheme, _, given = str(metadata.get("authorization", "")).partition(" ")
        bearer = scheme.lower() == "bearer" and is_same(given, token)
        if not (bearer or is_same(str(metadata.get("x-goog-api-key", "")), token)):
            raise RpcError(Code.PERMISSION_DENIED, WRONG)
