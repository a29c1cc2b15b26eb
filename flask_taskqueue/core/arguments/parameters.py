"""The named parameters of a handler, which a task stores and gives back by their annotations."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import InvalidTaskError
from .converter import BAD_VALUE, Read, make, may_be_none, read_of, takes_several, written
from .equality import same
from .form import Call
from .functions import label, name_of, type_hints
from .refusals import Misfit, altered, unconvertible
from .scalars import form_text

_JSON = make(naive=False)
_FORM = make(naive=False, form=True)
_MISSING = inspect.Parameter.empty


@dataclass(frozen=True, slots=True)
class _Parameter:
    name: str
    hint: Any
    default: Any
    many: bool
    optional: bool
    read_json: Read
    read_form: Read

    @classmethod
    def of(cls, handler: str, parameter: inspect.Parameter, hint: Any) -> _Parameter:
        read_json, read_form = read_of(_JSON, hint), read_of(_FORM, hint)
        if read_json is None or read_form is None:
            raise unconvertible(parameter, f"handler {handler}")
        return cls(
            parameter.name,
            hint,
            parameter.default,
            takes_several(hint),
            may_be_none(hint),
            read_json,
            read_form,
        )

    def of_form(self, texts: Any) -> Any:
        """Return the value that a form's texts express. Raises one of `BAD_VALUE`."""
        if self.many:
            return self.read_form(texts if isinstance(texts, list) else [texts], self.hint)
        return self.read_form(texts[-1] if isinstance(texts, list) and texts else texts, self.hint)

    def of_json(self, value: Any) -> Any:
        """Return the value of a JSON value, which may stand alone where a list is asked for.

        Raises one of `BAD_VALUE`.
        """
        if self.many and not isinstance(value, list | None):
            value = [value]
        return self.read_json(value, self.hint)


class Parameters:
    """The named parameters of one handler.

    `bind` reads back what `write` makes of arguments. `write` tries that first: it refuses an
    argument that would arrive as another one.
    """

    def __init__(
        self,
        handler: str,
        parameters: Mapping[str, _Parameter],
        rest: _Parameter | None,
        signature: inspect.Signature,
    ) -> None:
        self.names: frozenset[str] = frozenset(parameters) | ({"**"} if rest else set())
        self._handler = handler
        self._parameters = parameters
        self._rest = rest
        self._signature = signature

    @classmethod
    def of(cls, function: Callable[..., Any], *, skip: Collection[str] = ()) -> Parameters:
        """Return the parameters of a function.

        Those in ``skip``, which the URL fills, may have any annotation. Raises TypeError for a
        parameter that cannot be filled by name, or to whose annotation nothing can be converted.
        """
        name = name_of(function)
        hints = type_hints(function)
        signature = inspect.signature(function)
        parameters: dict[str, _Parameter] = {}
        rest: _Parameter | None = None
        for parameter in signature.parameters.values():
            if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.VAR_POSITIONAL):
                raise TypeError(
                    f"parameter {parameter.name!r} of handler {name} cannot be filled by name: "
                    "make it an ordinary one"
                )
            hint = hints.get(parameter.name, Any)
            made = _Parameter.of(
                name,
                parameter,
                Any if parameter.name in skip or typing.get_origin(hint) is typing.Unpack else hint,
            )
            if parameter.kind is parameter.VAR_KEYWORD:
                rest = made
            else:
                parameters[parameter.name] = made
        return cls(name, parameters, rest, signature)

    def bind(
        self, values: Mapping[str, Any], *, form: bool = True, skip: Collection[str] = ()
    ) -> dict[str, Any]:
        """Return the arguments for a call, from a form or from a JSON object.

        A form has a list of texts for each name. Names in ``skip`` (variables of the URL) are
        already filled. Raises `Misfit` naming the parameter that is missing or cannot be converted.
        """
        arguments: dict[str, Any] = {}
        for name, parameter in self._parameters.items():
            if name in skip:
                continue
            if name in values:
                arguments[name] = self._read(parameter, values[name], form)
            elif parameter.default is _MISSING:
                self._check_optional(parameter)
                arguments[name] = None
        if self._rest is not None:
            extra = {name: value for name, value in values.items() if name not in self._parameters}
            arguments |= {
                name: self._read(self._rest, value, form) for name, value in extra.items()
            }
        return arguments

    def write(
        self,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        *,
        skip: Collection[str] = (),
        form: str | None = None,
    ) -> tuple[Call | None, dict[str, Any] | None]:
        """Return a call's arguments as a form, or as a JSON object if a form would change one.

        Where JSON is not possible, ``form`` names what must express all of them, such as "the query
        of a GET". Raises TypeError if they do not fit the function, and `InvalidTaskError` naming
        the argument that the handler would not receive as it is.
        """
        given = self._named(args, kwargs)
        if not given:
            return None, None
        texts: dict[str, Any] = {}
        for name, value in given.items():
            if name in skip:
                continue
            text = self._as_text(self._of(name), value)
            if text is None and form is None:
                return Call({}, given), {
                    key: self._as_json(key, value)
                    for key, value in given.items()
                    if key not in skip
                }
            if text is None:
                raise self._unsayable(name, value, form)
            texts[name] = text
        return Call(texts, given), None

    def _named(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        bound = self._signature.bind(*args, **kwargs).arguments
        if self._rest is not None and self._rest.name in bound:
            rest = bound.pop(self._rest.name)
            return {**bound, **rest}
        return bound

    def _of(self, name: str) -> _Parameter:
        found = self._parameters.get(name, self._rest)
        if found is None:
            raise TypeError(f"handler {self._handler} has no parameter {name!r}")
        return found

    def _as_text(self, parameter: _Parameter, value: Any) -> Any:
        """Return a value's text, or texts, in a form; None if it would be read as another value."""
        try:
            text = _texts(value) if parameter.many else form_text(value)
            return text if text is not None and same(value, parameter.of_form(text)) else None
        except BAD_VALUE:
            return None

    def _as_json(self, name: str, value: Any) -> Any:
        parameter = self._of(name)
        arrived: Any = None
        try:
            stored = written(_JSON, value, parameter.hint)
            arrived = parameter.of_json(stored)
            if same(value, arrived):
                return stored
        except BAD_VALUE as error:
            raise altered(self._parameter(name), value, parameter.hint) from error
        raise altered(self._parameter(name), value, parameter.hint, arrived)

    def _unsayable(self, name: str, value: Any, form: str | None) -> InvalidTaskError:
        said = (
            f"{self._parameter(name)} has a value of type {type(value).__name__}, which {form} "
            "cannot say"
        )
        if self._of(name).hint is Any:
            return InvalidTaskError(
                f"{said} as what it is; annotate the parameter with its type, or give the "
                "handler a method that has a body"
            )
        return InvalidTaskError(
            f"{said}; leave it out, or give the handler a method that has a body, such as POST"
        )

    def _parameter(self, name: str) -> str:
        return f"parameter {name!r} of handler {self._handler}"

    def _check_optional(self, parameter: _Parameter) -> None:
        if not parameter.optional:
            raise Misfit(f"{self._parameter(parameter.name)} is missing from the task")

    def _read(self, parameter: _Parameter, raw: Any, form: bool) -> Any:
        try:
            return parameter.of_form(raw) if form else parameter.of_json(raw)
        except BAD_VALUE as error:
            raise Misfit(
                f"{self._parameter(parameter.name)} has a value that is no {label(parameter.hint)}"
            ) from error


def _texts(values: Any) -> list[str] | None:
    """Return the texts of several values; None if there are none, or if one has no text."""
    if not isinstance(values, list | tuple | set | frozenset) or not values:
        return None
    texts = [text for value in values if (text := form_text(value)) is not None]
    return texts if len(texts) == len(values) else None
