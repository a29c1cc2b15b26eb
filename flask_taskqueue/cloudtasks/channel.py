"""A gRPC channel that leads to the app itself, in this process and without a network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import grpc

from ..core.rpc.status import RpcError
from ..runtime import Runtime
from .protos import methods, unknown
from .service import CloudTasks


class InProcessChannel(grpc.Channel):  # type: ignore[misc]
    """A channel whose calls the app's own service answers, in the caller's thread.

    What a call changes is part of the session's transaction if the session holds changes.
    """

    def __init__(self, find_runtime: Callable[[], Runtime]) -> None:
        self._find_runtime = find_runtime

    def _find_service(self) -> CloudTasks:
        return CloudTasks(self._find_runtime())

    def unary_unary(
        self,
        method: str,
        request_serializer: Callable[[Any], bytes] | None = None,
        response_deserializer: Callable[[bytes], Any] | None = None,
        _registered_method: bool | None = None,
    ) -> _Call:
        """Return what calls a method."""
        return _Call(self._find_service, method, request_serializer, response_deserializer)

    def unary_stream(self, *_: Any, **__: Any) -> Any:
        """Refuse: the API has no such methods."""
        raise NotImplementedError("Cloud Tasks has no methods that stream")

    stream_unary = stream_stream = unary_stream

    def subscribe(self, callback: Callable[[Any], object], try_to_connect: bool = False) -> None:
        """Tell that the channel is ready, as it always is."""
        callback(grpc.ChannelConnectivity.READY)

    def unsubscribe(self, callback: Callable[[Any], object]) -> None:
        """Do nothing, because nothing is told later."""

    def close(self) -> None:
        """Do nothing, because nothing is open."""

    def __enter__(self) -> InProcessChannel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Call(grpc.UnaryUnaryMultiCallable):  # type: ignore[misc]
    """One method of the channel."""

    def __init__(
        self,
        find_service: Callable[[], CloudTasks],
        path: str,
        serialize: Callable[[Any], bytes] | None,
        deserialize: Callable[[bytes], Any] | None,
    ) -> None:
        self._find_service = find_service
        self._path = path
        self._serialize = serialize or bytes
        self._deserialize = deserialize or bytes

    def __call__(self, request: Any, *args: Any, **options: Any) -> Any:
        """Return the reply. Raises `CallError`."""
        return self.with_call(request, *args, **options)[0]

    def with_call(self, request: Any, *_: Any, **__: Any) -> tuple[Any, _Ended]:
        """Return the reply and the call. Raises `CallError`."""
        method = methods().get(self._path)
        try:
            if method is None:
                raise unknown(self._path)
            message = method.read(self._serialize(request))
            reply = self._find_service().call(method.rpc, message)
        except RpcError as error:
            raise CallError(error) from error
        return self._deserialize(method.write(reply)), _Ended()

    def future(self, *_: Any, **__: Any) -> Any:
        """Refuse: the call would run in the caller's transaction, from another thread."""
        raise NotImplementedError("the channel has no futures: call the method itself")


class _Ended(grpc.Call):  # type: ignore[misc]
    """A call that has ended."""

    def code(self) -> Any:
        """Return its status code."""
        return grpc.StatusCode.OK

    def details(self) -> str:
        """Return the text of its error, "" for none."""
        return ""

    def initial_metadata(self) -> Sequence[tuple[str, str]]:
        """Return no metadata."""
        return ()

    def trailing_metadata(self) -> Sequence[tuple[str, str]]:
        """Return no metadata."""
        return ()

    def is_active(self) -> bool:
        """Return that it has ended."""
        return False

    def time_remaining(self) -> None:
        """Return None: it has no deadline."""

    def cancel(self) -> bool:
        """Return that it cannot be cancelled any more."""
        return False

    def add_callback(self, callback: Callable[[], object]) -> bool:
        """Return that it has ended already."""
        return False


class CallError(grpc.RpcError, _Ended):  # type: ignore[misc]
    """A call that was refused, as gRPC's own errors are: an exception and a call at once."""

    def __init__(self, error: RpcError) -> None:
        super().__init__(error.message)
        self._error = error

    def code(self) -> Any:
        """Return its status code."""
        return status_code(self._error)

    def details(self) -> str:
        """Return its text."""
        return self._error.message

    def result(self, timeout: float | None = None) -> Any:
        """Raise it."""
        raise self

    def exception(self, timeout: float | None = None) -> CallError:
        """Return it."""
        return self


def status_code(error: RpcError) -> Any:
    """Return gRPC's own value for the code of an error."""
    return getattr(grpc.StatusCode, error.code.name)
