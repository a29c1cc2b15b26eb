"""Functions and classes by name, as far as rows of the table may name them.

A name is that of a module and of what it defines: ``shop.mail:send``, ``shop.models:User.greet``. A
row that anybody has written can name whatever it likes, so that a name is looked up, and its
module imported, only where the app allows it; and what another module has defined, such as what
``from os import system`` leaves there, is not found at all.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from types import FunctionType
from typing import Any

from ..errors import InvalidTaskError, PermanentFailure, shown

_NAME = re.compile(
    r"(?:[A-Za-z][A-Za-z0-9_]*\.)*[A-Za-z][A-Za-z0-9_]*:"
    r"(?:[A-Za-z][A-Za-z0-9_]*\.)*[A-Za-z][A-Za-z0-9_]*",
    re.ASCII,
)
_SCRIPT = "__main__"


@dataclass(frozen=True, slots=True)
class NamedFunctions:
    """The functions and classes of some modules, each with the modules below it.

    ``script`` is the module that other processes know the one by that is ``__main__`` here.
    """

    modules: tuple[str, ...]
    script: str | None = None

    def allows(self, module: str) -> bool:
        """Return whether a module may be named."""
        return any(module == prefix or module.startswith(f"{prefix}.") for prefix in self.modules)

    def name_of(self, function: Any) -> str:
        """Return the name by which `find` finds a function, a class method or a static method.

        Raises `InvalidTaskError` for anything else, and for what would not be found.
        """
        plain = function.__func__ if _is_class_method(function) else function
        if not inspect.isfunction(plain):
            raise InvalidTaskError(_hint(function))
        owner = f"{function.__self__.__qualname__}." if plain is not function else ""
        module = self._module_of(function.__self__ if owner else plain)
        name = f"{module}:{owner}{plain.__name__ if owner else plain.__qualname__}"
        return self._proven(name, plain, lambda: _plain(self.find(name)))

    def class_name(self, kind: type) -> str:
        """Return the name by which `find_class` finds a class. Raises `InvalidTaskError`."""
        name = f"{self._module_of(kind)}:{kind.__qualname__}"
        return self._proven(name, kind, lambda: self.find_class(name))

    def find(self, name: object) -> Callable[..., Any]:
        """Return the function of a name; a class method comes with its class.

        Raises `PermanentFailure` unless it is a function that an allowed module has defined.
        """
        owner, last = self._owner(name)
        static = inspect.getattr_static(owner, last, None)
        function = getattr(static, "__func__", static)
        if not isinstance(static, FunctionType | classmethod | staticmethod) or not isinstance(
            function, FunctionType
        ):
            raise PermanentFailure(f"{shown(name)} is no function that is defined there")
        if inspect.ismodule(owner):
            self._check_defined(name, function, str(name).partition(":")[0])
        elif not self.allows(self._module_of(function)):
            raise _elsewhere(name, function.__module__)
        found = static if isinstance(static, FunctionType) else static.__get__(None, owner)
        return found

    def find_class(self, name: object) -> type:
        """Return the class of a name.

        Raises `PermanentFailure` unless it is a class that an allowed module has defined.
        """
        owner, last = self._owner(name)
        found = vars(owner).get(last)
        if not isinstance(found, type):
            raise PermanentFailure(f"{shown(name)} is no class that is defined there")
        self._check_defined(name, found, str(name).partition(":")[0])
        return found

    def _owner(self, name: object) -> tuple[Any, str]:
        """Return the module or the class that has what is named, and the last part of its name."""
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise PermanentFailure(
                f"{shown(name)} is no name of a function: it must be 'module:function', without "
                "private parts"
            )
        module, _, path = name.partition(":")
        if not self.allows(module):
            raise PermanentFailure(
                f"{shown(name)} is in module {module!r}, which is neither in the app's own package "
                "nor in TASKQUEUE_DEFERRED_MODULES"
            )
        try:
            owner: Any = importlib.import_module(_SCRIPT if module == self.script else module)
        except ImportError as error:
            raise PermanentFailure(
                f"{shown(name)}: its module cannot be imported: {error}"
            ) from error
        *classes, last = path.split(".")
        for part in classes:
            found = vars(owner).get(part)
            if not isinstance(found, type):
                raise PermanentFailure(f"{shown(name)}: {part!r} is no class that is defined there")
            self._check_defined(name, found, module)
            owner = found
        return owner, last

    def _proven(self, name: str, wanted: object, find: Callable[[], object]) -> str:
        """Return the name of something, if that finds it. Raises `InvalidTaskError`."""
        try:
            found = find()
        except PermanentFailure as error:
            raise InvalidTaskError(str(error)) from error
        if found is not wanted:
            raise InvalidTaskError(f"the name {name} is that of something else now")
        return name

    def _check_defined(self, name: object, found: Any, module: str) -> None:
        if self._module_of(found) != module:
            raise _elsewhere(name, found.__module__)

    def _module_of(self, found: Any) -> Any:
        """Return the module that has defined something, by the name that other processes know."""
        module = found.__module__
        return self.script if module == _SCRIPT and self.script is not None else module


def _elsewhere(name: object, module: object) -> PermanentFailure:
    return PermanentFailure(
        f"{shown(name)} is not defined there, but in module {shown(module)}: name it there"
    )


def _is_class_method(function: Any) -> bool:
    return inspect.ismethod(function) and isinstance(function.__self__, type)


def _plain(function: Callable[..., Any]) -> Any:
    return getattr(function, "__func__", function)


def _hint(function: Any) -> str:
    name = getattr(function, "__name__", None) or f"a {type(function).__name__}"
    if hasattr(function, "enqueue"):
        return f"{name} is a task function: call {name}.enqueue(...)"
    return (
        f"{name} is neither a function nor a class method of a module, and no method of a row: "
        "defer a function, and give it the key of what it works on"
    )
