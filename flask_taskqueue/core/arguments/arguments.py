"""The arguments of a call to a handler, as a task holds them and gives them back."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from types import GenericAlias
from typing import Any, NoReturn

from ..errors import InvalidTaskError
from .converter import BAD_VALUE, Read, readers, written
from .equality import same
from .form import Call, form_text
from .functions import label, may_be_none, name_of, takes_several, type_hints
from .placeholder import REPLY, is_inside
from .refusals import Misfit, altered, unconvertible, unsayable

_STARS: dict[Any, str] = {
    inspect.Parameter.VAR_POSITIONAL: "*",
    inspect.Parameter.VAR_KEYWORD: "**",
}
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


@dataclass(frozen=True, slots=True)
class _Parameter:
    """A parameter of a handler; ``name`` is the one its value has in a task."""

    name: str
    declared: inspect.Parameter
    hint: Any
    many: bool
    read_json: Read
    read_form: Read

    @classmethod
    def of(cls, handler: str, parameter: inspect.Parameter, hint: Any) -> _Parameter:
        name = _STARS.get(parameter.kind, "") + parameter.name
        if parameter.kind is parameter.VAR_POSITIONAL:
            hint = GenericAlias(tuple, (hint, ...))
        found = readers(hint)
        if found is None and parameter.default is parameter.empty:
            raise unconvertible(_named(name, handler), hint)
        return cls(name, parameter, hint, takes_several(hint), *(found or (_no_value, _no_value)))

    @property
    def has_default(self) -> bool:
        """Whether a call may leave the parameter out."""
        return (
            self.declared.default is not self.declared.empty
            or self.declared.kind is self.declared.VAR_POSITIONAL
        )

    @property
    def is_needed(self) -> bool:
        """Whether a task must bring a value; without one an optional parameter is None."""
        return not self.has_default and not may_be_none(self.hint)

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


class Arguments:
    """The writer and reader of one handler's arguments.

    `bind` reads what `write` and `write_json` make of a call. They try that first, and refuse an
    argument that would arrive as another one. Each value has the name of its parameter, with the
    star for a ``*`` parameter; ``**`` arguments have their own names. So stored tasks stay valid
    when a parameter is moved, or added with a default.

    ``filled`` are the parameters that the variables of the URL fill, whatever their annotations.
    Raises TypeError for any other parameter without a default to whose annotation no value can be
    converted.
    """

    def __init__(self, function: Callable[..., Any], *, filled: Collection[str] = ()) -> None:
        self._handler = name_of(function)
        self._signature = inspect.signature(function)
        self._filled = frozenset(filled)
        self._parameters: dict[str, _Parameter] = {}
        self._star: str | None = None
        self._more: _Parameter | None = None
        hints = type_hints(function)
        for name, parameter in self._signature.parameters.items():
            hint = Any if name in self._filled else hints.get(name, Any)
            made = _Parameter.of(self._handler, parameter, hint)
            if parameter.kind is parameter.VAR_KEYWORD:
                self._more = made
                continue
            self._parameters[made.name] = made
            if parameter.kind is parameter.VAR_POSITIONAL:
                self._star = made.name

    @property
    def are_expected(self) -> bool:
        """Whether the handler has parameters that a task's values can fill."""
        return self._more is not None or not self._parameters.keys() <= self._filled

    def requires(self, name: str) -> bool:
        """Return whether a task must bring a value of this name."""
        parameter = self._parameters.get(name)
        return parameter is not None and name not in self._filled and parameter.is_needed

    def bind(
        self,
        values: Mapping[str, Any],
        *,
        form: bool = False,
        filled: Mapping[str, Any] | None = None,
    ) -> tuple[list[Any], dict[str, Any]]:
        """Return the positional and the named arguments of the call that a task asks for.

        ``values`` are a JSON object or, with ``form``, a form, which has a list of texts for each
        name. Those in ``filled`` are passed on as they are. Only what the task brings is passed,
        by name where that is possible, so a decorator may add the rest. Raises `Misfit` naming the
        parameter that is missing or cannot be converted.
        """
        found = dict(filled or {})
        for name, parameter in self._parameters.items():
            if name in found:
                continue
            if name in values:
                found[name] = self._read(name, values[name], form)
            elif parameter.is_needed:
                raise Misfit(f"{self._what(name)} is missing from the task")
            elif not parameter.has_default:
                found[name] = None
        if self._more is not None:
            found |= {
                name: self._read(name, value, form)
                for name, value in values.items()
                if name not in self._parameters and name not in found
            }
        return self._ordered(found)

    def check_names(self, values: Mapping[str, Any]) -> None:
        """Raise `Misfit` for a value that no parameter takes."""
        for name in sorted(values):
            self._of(name)

    def write(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, form: str | None = None
    ) -> tuple[Call | None, dict[str, Any] | None]:
        """Return a call's arguments as a form, or as a JSON object if a form would change one.

        Where JSON is not possible, ``form`` names what must express all of them, such as "the query
        of a GET". Raises TypeError if they do not fit the handler, and `InvalidTaskError` naming
        the argument that the handler would not receive as it is.
        """
        given = self._given(args, kwargs)
        if not given:
            return None, None
        sent = {name: value for name, value in given.items() if name not in self._filled}
        self._check_placeholder(given.keys() - sent.keys(), given)
        texts: dict[str, Any] = {}
        for name, value in sent.items():
            text = None if value is REPLY else self._as_text(self._of(name), value)
            if text is not None:
                texts[name] = text
            elif form is None:
                return Call({}, given), self._as_json(sent)
            else:
                raise unsayable(self._what(name), value, self._of(name).hint, form)
        return Call(texts, given), None

    def write_json(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return a call's arguments as a JSON object. Raises what `write` raises."""
        return self._as_json(self._given(args, kwargs))

    def _given(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        try:
            bound = dict(self._signature.bind(*args, **kwargs).arguments)
        except TypeError as error:
            hint = "; options of the task go before the call, as in handler.options(countdown=60)"
            unknown = "unexpected keyword" in str(error)
            raise TypeError(f"{self._handler}: {error}{hint if unknown else ''}") from None
        given = {
            name: bound.pop(parameter.declared.name)
            for name, parameter in self._parameters.items()
            if parameter.declared.name in bound
        }
        more = bound.popitem()[1] if bound else {}  # what is left is that of **
        for name in more:
            if name in self._parameters:
                raise InvalidTaskError(
                    f"{self._what(name)} is not the only argument of that name, and a task holds "
                    "one: rename the other"
                )
        return given | more

    def _ordered(self, found: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """Return positional and named arguments; before those of ``*`` all are positional."""
        rest = found.pop(self._star, ()) if self._star else ()
        args = [
            found.pop(name, parameter.declared.default)
            for name, parameter in self._parameters.items()
            if parameter.declared.kind in (_POSITIONAL if rest else _POSITIONAL[:1])
        ]
        return [*args, *rest], found

    def _of(self, name: str) -> _Parameter:
        found = self._parameters.get(name, self._more)
        if found is None:
            raise Misfit(
                f"handler {self._handler} has no parameter {name!r}, which the task brings"
            )
        return found

    @staticmethod
    def _as_text(parameter: _Parameter, value: Any) -> Any:
        """Return a value's text, or texts, in a form; None if it would be read as another value."""
        try:
            text = _texts(value) if parameter.many else form_text(value)
            return text if text is not None and same(value, parameter.of_form(text)) else None
        except BAD_VALUE:
            return None

    def _as_json(self, given: Mapping[str, Any]) -> dict[str, Any]:
        return {name: self._json_value(name, value) for name, value in given.items()}

    def _json_value(self, name: str, value: Any) -> Any:
        parameter = self._of(name)
        if value is REPLY:
            return value
        if is_inside(value):
            raise InvalidTaskError(
                f"{self._what(name)} has REPLY inside of it: only a whole argument can be the "
                "reply; take it as an argument of its own"
            )
        arrived: Any = None
        try:
            stored = written(value, parameter.hint)
            arrived = parameter.of_json(stored)
            if same(value, arrived):
                return stored
        except BAD_VALUE as error:
            raise altered(self._what(name), value, parameter.hint) from error
        raise altered(self._what(name), value, parameter.hint, arrived)

    def _check_placeholder(self, filled: Collection[str], given: Mapping[str, Any]) -> None:
        """Raise `InvalidTaskError` if a variable of the URL is to be the reply of another task."""
        for name in filled:
            if given[name] is REPLY:
                raise InvalidTaskError(
                    f"{self._what(name)} is part of the URL, which REPLY cannot be: pass it as a "
                    "parameter that the URL has no place for"
                )

    def _what(self, name: str) -> str:
        return _named(name, self._handler)

    def _read(self, name: str, raw: Any, form: bool) -> Any:
        parameter = self._of(name)
        try:
            return parameter.of_form(raw) if form else parameter.of_json(raw)
        except BAD_VALUE as error:
            raise Misfit(
                f"{self._what(name)} has a value that is no {label(parameter.hint)}"
            ) from error


def _named(name: str, handler: str) -> str:
    return f"parameter {name!r} of handler {handler}"


def _no_value(_: Any, __: Any) -> NoReturn:
    raise TypeError("no task fills this parameter")


def _texts(values: Any) -> list[str] | None:
    """Return the texts of several values; None if there are none, or if one has no text."""
    if not isinstance(values, list | tuple | set | frozenset) or not values:
        return None
    texts = [text for value in values if (text := form_text(value)) is not None]
    return texts if len(texts) == len(values) else None
