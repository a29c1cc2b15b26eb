"""Messages: what an rpc takes and returns, declared once.

A declaration reads JSON, which may come from anyone, and describes itself as a JSON schema.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from ..errors import shown
from . import wire
from .status import invalid

Fields = dict[str, Any]
"""A message that was read: only the fields that were given, by their JSON names."""


class Kind(Protocol):
    """What a field holds."""

    def parse(self, value: Any, where: str) -> Any:
        """Return the value that JSON stands for; None means not given.

        ``where`` names the field in the message of the `RpcError` that is raised otherwise.
        """

    def schema(self) -> Mapping[str, Any]:
        """Return the JSON schema of the values."""


@dataclass(frozen=True, slots=True)
class Scalar:
    """A value that is not made of others."""

    read: Callable[[Any], Any]
    wanted: str
    described: Mapping[str, Any]

    def parse(self, value: Any, where: str) -> Any:
        """Return the value."""
        try:
            return self.read(value)
        except ValueError as error:
            raise invalid(f"{where} is {shown(value)}; it must be {self.wanted}.") from error

    def schema(self) -> Mapping[str, Any]:
        """Return its schema."""
        return self.described


TEXT = Scalar(wire.string, "a text", {"type": "string"})
BYTES = Scalar(wire.data, "base64", {"type": "string", "format": "byte"})
BOOLEAN = Scalar(wire.boolean, "true or false", {"type": "boolean"})
INTEGER = Scalar(wire.integer, "a whole number", {"type": "integer", "format": "int32"})
LONG = Scalar(wire.integer, "a whole number", {"type": "string", "format": "int64"})
DECIMAL = Scalar(wire.decimal, "a finite number", {"type": "number", "format": "double"})
DURATION = Scalar(
    wire.duration,
    'a duration in seconds, such as "0.1s"',
    {"type": "string", "format": "google-duration"},
)
TIMESTAMP = Scalar(
    wire.timestamp,
    'a timestamp with its offset, such as "2026-01-01T00:00:00Z"',
    {"type": "string", "format": "google-datetime"},
)


@dataclass(frozen=True, slots=True)
class Choice:
    """One of some names, which clients also send as numbers; 0 is unspecified."""

    numbers: Mapping[str, int]

    def parse(self, value: Any, where: str) -> str | None:
        """Return the name."""
        try:
            return wire.enum(value, self.numbers)
        except ValueError as error:
            names = ", ".join(name for name, number in self.numbers.items() if number)
            raise invalid(f"{where} is {shown(value)}; it must be one of {names}.") from error

    def schema(self) -> Mapping[str, Any]:
        """Return its schema."""
        return {"type": "string", "enum": list(self.numbers)}


@dataclass(frozen=True, slots=True)
class Repeated:
    """A list."""

    of: Kind

    def parse(self, value: Any, where: str) -> list[Any]:
        """Return the items."""
        if not isinstance(value, list):
            raise invalid(f"{where} is {shown(value)}; it must be a list.")
        return [self.of.parse(item, f"{where}[{number}]") for number, item in enumerate(value)]

    def schema(self) -> Mapping[str, Any]:
        """Return its schema."""
        return {"type": "array", "items": self.of.schema()}


@dataclass(frozen=True, slots=True)
class Dictionary:
    """Values by texts."""

    of: Kind

    def parse(self, value: Any, where: str) -> dict[str, Any]:
        """Return the values."""
        if not isinstance(value, dict):
            raise invalid(f"{where} is {shown(value)}; it must be an object.")
        return {
            TEXT.parse(name, f"a name in {where}"): self.of.parse(item, f"{where}[{shown(name)}]")
            for name, item in value.items()
        }

    def schema(self) -> Mapping[str, Any]:
        """Return its schema."""
        return {"type": "object", "additionalProperties": self.of.schema()}


@dataclass(frozen=True, slots=True)
class Message:
    """A message: its fields by their JSON names.

    ``output`` names the fields that only the service sets. They are ignored in requests, as a
    client sends back what it was given.
    """

    name: str
    fields: Mapping[str, Kind]
    output: frozenset[str] = frozenset()
    doc: str = ""
    _names: dict[str, str] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Learn both spellings of each field, as protobuf's parsers know them."""
        self._names.update({_snake(name): name for name in self.fields})
        self._names.update({name: name for name in self.fields})

    def parse(self, value: Any, where: str = "") -> Fields:
        """Return the fields that are given, null and output fields left out.

        A field that the message does not have is refused, as Google's APIs do.
        """
        if not isinstance(value, dict):
            raise invalid(f"{where or 'the request'} is {shown(value)}; it must be an object.")
        found: Fields = {}
        for given, content in value.items():
            name = self._names.get(given)
            place = f"{where}.{name}" if where else name
            if name is None or place is None:
                raise invalid(
                    f"{where or self.name} has no field {shown(given)}; "
                    f"it has {', '.join(self.fields)}."
                )
            if content is None or name in self.output:
                continue
            parsed = self.fields[name].parse(content, place)
            if parsed is not None:
                found[name] = parsed
        return found

    def paths(self) -> Iterator[str]:
        """Yield the path of each field and of the fields below it, as `wire.mask` returns them."""
        for name, kind in self.fields.items():
            yield name.lower()
            if isinstance(kind, Message):
                yield from (f"{name.lower()}.{path}" for path in kind.paths())

    def schema(self) -> Mapping[str, Any]:
        """Return a reference to its schema, which `definition` holds."""
        return {"$ref": f"#/components/schemas/{self.name}"}

    def definition(self) -> dict[str, Any]:
        """Return its own schema."""
        properties = {}
        for name, kind in self.fields.items():
            schema = dict(kind.schema())
            properties[name] = schema | ({"readOnly": True} if name in self.output else {})
        described = {"description": self.doc} if self.doc else {}
        return {"type": "object", **described, "properties": properties}


EMPTY = Message("Empty", {})


@dataclass(frozen=True, slots=True)
class Mask:
    """The paths of some fields of a message, or "*" for all of them."""

    of: Message

    def parse(self, value: Any, where: str) -> frozenset[str]:
        """Return the paths, in lower case and without underscores."""
        try:
            paths = wire.mask(value)
        except ValueError as error:
            raise invalid(
                f"{where} is {shown(value)}; it must be paths of fields, such as "
                '"rateLimits,retryConfig".'
            ) from error
        for path in sorted(paths.difference(["*"], self.of.paths())):
            raise invalid(
                f"{where} names {shown(path)}, which {self.of.name} does not have; it has "
                f"{', '.join(self.of.fields)}."
            )
        return paths

    def schema(self) -> Mapping[str, Any]:
        """Return its schema."""
        return {"type": "string", "format": "google-fieldmask"}


def _snake(name: str) -> str:
    return re.sub(r"[A-Z]", lambda match: f"_{match[0].lower()}", name)
