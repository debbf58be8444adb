"""YAML as this package reads it: plain values, each key once, and of a size and depth that a person could have written.

PyYAML's safe loader runs no code, but takes whatever else there is: a few lines of aliases that stand for a billion
values, a key that silently replaces another, infinity where a length is meant.
"""

from __future__ import annotations

import math
from typing import Any

import yaml
from yaml.composer import ComposerError
from yaml.nodes import MappingNode, Node, ScalarNode

from rls3_registry.errors import UserError, first_line

MOST_BYTES = 2**17
"""Of a file; the largest of the registry has a thirtieth of it."""
MOST_VALUES = 20_000
"""Of a file, with aliases written out."""
DEEPEST = 32
"""Lists and mappings inside one another."""
_LARGEST = 2**63
_MERGE = "tag:yaml.org,2002:merge"
_TIMESTAMP = "tag:yaml.org,2002:timestamp"


class _Loader(yaml.SafeLoader):
    """The safe loader, with limits. A date is text."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != _TIMESTAMP]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._n = self._depth = 0
        self._known: dict[int, tuple[int, int]] = {}
        """Of each node that is complete: how many values it stands for, and how deep they go."""

    def compose_node(self, parent: Node | None, index: int) -> Node | None:
        """One value, counted."""
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            node = super().compose_node(parent, index)
            n, depth = self._known.get(id(node), (0, 0))
            if n == 0:
                raise ComposerError(None, None, "a value refers to itself", mark)
            self._count(n, depth, mark)
            return node
        mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
        before = self._n
        self._count(1, 0, mark)
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        if node is not None:
            parts = [part for pair in node.value for part in (pair if isinstance(pair, tuple) else (pair,))]
            below = 0 if isinstance(node, ScalarNode) else max((self._known[id(part)][1] for part in parts), default=0)
            self._known[id(node)] = (self._n - before, below + 1)
        return node

    def _count(self, n: int, depth: int, mark: Any) -> None:
        self._n += n
        if self._n > MOST_VALUES:
            raise ComposerError(None, None, f"it stands for more than {MOST_VALUES:,} values", mark)
        if self._depth + depth > DEEPEST:
            raise ComposerError(None, None, f"values are nested more than {DEEPEST} deep", mark)

    def compose_mapping_node(self, anchor: Any) -> MappingNode:
        """A mapping whose keys are all different."""
        node = super().compose_mapping_node(anchor)
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value:
            if isinstance(key, ScalarNode) and key.tag != _MERGE:
                if (key.tag, key.value) in seen:
                    problem = f"the key {key.value[:80]!r} stands twice in one mapping"
                    raise ComposerError(None, None, problem, key.start_mark)
                seen.add((key.tag, key.value))
        return node


def parse_yaml(text: str, where: str) -> Any:
    """The value that a YAML text stands for. Raises `UserError`, which begins with `where` (and says the line)."""
    try:
        loader = _Loader(text)
        try:
            content = loader.get_single_data()
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}," if mark else ""
        problem = getattr(error, "problem", None) or first_line(error)
        raise UserError(f"{where}:{line} not valid YAML: {problem}") from error
    except Exception as error:  # a value that is not what its tag says makes PyYAML raise whatever comes of it
        raise UserError(f"{where}: not valid YAML: a value is not what its tag says ({first_line(error)})") from error
    _check_plain(content, where, ())
    return content


def _check_plain(value: Any, where: str, keys: tuple[str, ...]) -> None:
    """Raise `UserError` for a value that JSON has no type for, or that no setting can have."""
    if isinstance(value, dict):
        for key, item in value.items():
            _check_plain(key, where, keys)
            _check_plain(item, where, (*keys, str(key)))
        return
    if isinstance(value, list):
        for item in value:
            _check_plain(item, where, keys)
        return
    problem = ""
    if isinstance(value, float) and not math.isfinite(value):
        problem = f"{value} is not a number that can be set"
    elif isinstance(value, int) and not -_LARGEST <= value < _LARGEST:
        problem = "the number is too large"
    elif isinstance(value, str) and not _is_text(value):
        problem = "holds an invalid character"
    elif not isinstance(value, str | int | float | None):
        problem = f"a value of the type {type(value).__name__} can't be set"
    if problem:
        raise UserError(f"{where}: {'.'.join(keys)[:200]}{': ' if keys else ''}{problem}")


def _is_text(value: str) -> bool:
    """Whether UTF-8 has all of its characters: half a pair of surrogates has no code."""
    return not any("\ud800" <= character <= "\udfff" for character in value)
