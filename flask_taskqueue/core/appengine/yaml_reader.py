"""YAML files as mappings whose keys know their line."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import yaml

from ..errors import ConfigurationError
from ..settings.checks import nearest

_DEEPEST = 20
_SHOWN = 80
_WHOLE = re.compile(r"[+-]?(?:0|[1-9][0-9]{0,17})", re.ASCII)
_STRANGE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")
_TRUTHS = {"yes": True, "true": True, "on": True, "no": False, "false": False, "off": False}
_HINTS = {
    "\\t": "indent with spaces, not tabs",
    "<block end>": "see whether the lines above are indented alike",
    "while scanning an alias": "a text that begins with * needs quotes",
    "while scanning an anchor": "a text that begins with & needs quotes",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """The value that a file holds at a key, or at one place of the list there.

    Each method raises `ConfigurationError` for a value that it cannot read.
    """

    file: str
    line: int
    key: str
    node: yaml.Node

    @property
    def what(self) -> str:
        """File, line and key, as the beginning of a sentence about the value."""
        return f"{self.file}, line {self.line}, {self.key}: it"

    @property
    def is_empty(self) -> bool:
        """Whether there is no value, or null."""
        return _is_empty(self.node)

    def refuse(self, problem: str) -> NoReturn:
        """Raise an error that says where the problem is."""
        raise ConfigurationError(f"{self.file}, line {self.line}, {self.key}: {problem}")

    def must_be(self, wanted: str) -> NoReturn:
        """Raise an error that says what the value must be instead."""
        self.refuse(f"it is {self._shown()}; it must be {wanted}")

    def scalar(self) -> str:
        """Return the value as written, without its quotes; it must be no list and no mapping."""
        if self.is_empty or not isinstance(self.node, yaml.ScalarNode):
            self.must_be("a text")
        strange = _STRANGE.search(self.node.value)
        return (
            str(self.node.value)
            if strange is None
            else self.refuse(f"it holds the character {_code(strange[0])}, which cannot be stored")
        )

    def text(self) -> str:
        """Return a text that is not empty."""
        return self.scalar() or self.must_be("a text that is not empty")

    def whole(self) -> int:
        """Return a whole number in decimal digits."""
        return (
            int(self.scalar())
            if _WHOLE.fullmatch(self.scalar())
            else self.must_be("a whole number")
        )

    def boolean(self) -> bool:
        """Return True or False, written without quotes in any spelling of YAML 1.1."""
        if not self.node.tag.endswith(":bool"):
            self.must_be("true or false")
        return _TRUTHS[self.scalar().lower()]

    def items(self) -> list[Entry]:
        """Return the items of a list, each with its own line."""
        if not isinstance(self.node, yaml.SequenceNode):
            self.must_be("a list")
        return [
            Entry(self.file, _line(node.start_mark), self.key, node) for node in self.node.value
        ]

    def entries(self, known: Collection[str]) -> dict[str, Entry]:
        """Return the entries of a mapping by key, without the empty ones.

        Each key must be known, and may appear only once.
        """
        if not isinstance(self.node, yaml.MappingNode):
            self.must_be("a mapping")
        found: dict[str, Entry] = {}
        for key, value in self.node.value:
            entry = Entry(
                self.file,
                _line(key.start_mark),
                Entry(self.file, _line(key.start_mark), "a key", key).text(),
                value,
            )
            if entry.key not in known:
                entry.refuse(f"there is no such key{nearest(entry.key, known)}")
            if entry.key in found:
                entry.refuse(f"it is given twice, first in line {found[entry.key].line}")
            found[entry.key] = entry
        return {key: entry for key, entry in found.items() if not entry.is_empty}

    def read(
        self, readers: Mapping[str, Reader], needed: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """Return the values of a mapping, each as its key's reader returns it.

        ``needed`` has an example for each required key.
        """
        values = {key: readers[key](entry) for key, entry in self.entries(readers).items()}
        for key, example in (needed or {}).items():
            if key not in values:
                Entry(self.file, self.line, key, self.node).refuse(
                    f"it is missing; give it, such as '{key}: {example}'"
                )
        return values

    def _shown(self) -> str:
        if self.is_empty or not isinstance(self.node, yaml.ScalarNode):
            return (
                "empty"
                if self.is_empty
                else "a list"
                if isinstance(self.node, yaml.SequenceNode)
                else "a mapping"
            )
        value = self.node.value
        return repr(value if len(value) <= _SHOWN else value[:_SHOWN] + "...")


Reader = Callable[[Entry], Any]


def read_yaml(text: str, *, file: str, readers: Mapping[str, Reader]) -> dict[str, Any]:
    """Return the values of a file that is one mapping, each as its key's reader returns it.

    An empty file has none. Only plain YAML is read: anchors, aliases and tags are refused, so that
    a short file stays short, and only texts, lists and mappings are constructed. A key without a
    value counts as left out.

    Raises `ConfigurationError` naming ``file``, the line and, if possible, the key.
    """
    node = _compose(text, file)
    return (
        {}
        if node is None or _is_empty(node)
        else Entry(file, _line(node.start_mark), "the whole file", node).read(readers)
    )


def _compose(text: str, file: str) -> yaml.Node | None:
    try:
        line, problem = _not_plain(text)
    except yaml.reader.ReaderError as error:
        line, problem = (
            text.count("\n", 0, error.position) + 1,
            f"a YAML file cannot hold the character {_code(text[error.position])}",
        )
    except yaml.MarkedYAMLError as error:
        line, problem = _line(error.problem_mark or error.context_mark), _malformed(error)
    if problem:
        raise ConfigurationError(f"{file}, line {line}: {problem}")
    return yaml.compose(text, Loader=yaml.SafeLoader)


def _not_plain(text: str) -> tuple[int, str | None]:
    """Return the line of the first construct that plain YAML does not have, and what is wrong.

    The problem is None if there is none. The file is read bit by bit, so that a problem is found
    before anything can grow out of it.
    """
    line, documents, depth = 1, 0, 0
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            line = _line(event.start_mark)
            documents += isinstance(event, yaml.DocumentStartEvent)
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(
                event, yaml.CollectionEndEvent
            )
            problem = _beyond_plain(event) or _beyond_one(documents, depth)
            if problem:
                return line, problem
    except (ValueError, OverflowError) as error:  # an escape beyond Unicode, which reaches chr()
        return line, f"what follows is not YAML: {error}"
    return line, None


def _beyond_plain(event: yaml.Event) -> str | None:
    if getattr(event, "anchor", None) is not None:
        return (
            "anchors (&) and aliases (*) are not read; write the value itself, in quotes if it "
            "begins with one of them"
        )
    if getattr(event, "tag", None) is not None:
        return "tags (!) are not read; write the value alone, in quotes if it begins with this"
    return None


def _beyond_one(documents: int, depth: int) -> str | None:
    if documents > 1:
        return "a second document begins; the file must hold one"
    return f"lists and mappings are nested more than {_DEEPEST} deep" if depth > _DEEPEST else None


def _malformed(error: yaml.MarkedYAMLError) -> str:
    context, problem = error.context or "", error.problem or ""
    where = (
        f" {context} in line {_line(error.context_mark)}," if context and error.context_mark else ""
    )
    hints = [hint for sign, hint in _HINTS.items() if sign in f"{context}: {problem}"]
    return "; ".join([f"it is not YAML:{where} {problem}", *hints])


def _is_empty(node: yaml.Node) -> bool:
    return str(node.tag).endswith(":null")


def _line(mark: Any) -> int:
    return int(mark.line) + 1


def _code(character: str) -> str:
    return f"U+{ord(character):04X}"
