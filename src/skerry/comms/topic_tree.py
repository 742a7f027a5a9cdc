"""Topics and patterns in a tree of levels, to match one against many quickly."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class _Node(Generic[T]):
    __slots__ = ("children", "value")

    def __init__(self) -> None:
        self.children: dict[str, _Node[T]] = {}
        self.value: T | None = None


class TopicTree(Generic[T]):
    """Values by topic or by pattern; all of them well formed.

    Example:
        >>> tree = TopicTree[int]()
        >>> tree.put("a/+", 1)
        >>> tree.put("a/b/#", 2)
        >>> list(tree.whose_pattern_matches("a/b"))
        [2, 1]
    """

    def __init__(self) -> None:
        self._root: _Node[T] = _Node()

    def get(self, path: str) -> T | None:
        """The value at exactly this topic or pattern, or None."""
        node: _Node[T] | None = self._root
        for level in path.split("/"):
            node = node.children.get(level) if node else None
        return node.value if node else None

    def put(self, path: str, value: T) -> None:
        """Set the value at this topic or pattern."""
        node = self._root
        for level in path.split("/"):
            node = node.children.setdefault(level, _Node())
        node.value = value

    def pop(self, path: str) -> T | None:
        """Remove and return the value at this topic or pattern, or None."""
        levels = path.split("/")
        nodes = [self._root]
        for level in levels:
            child = nodes[-1].children.get(level)
            if child is None:
                return None
            nodes.append(child)
        value, nodes[-1].value = nodes[-1].value, None
        for parent, level in zip(reversed(nodes[:-1]), reversed(levels), strict=True):
            child = parent.children[level]
            if child.value is None and not child.children:
                del parent.children[level]
        return value

    def whose_pattern_matches(self, topic: str) -> Iterator[T]:
        """The values whose patterns match a topic."""
        for node in self._follow(self._root, topic.split("/"), 0):
            if node.value is not None:
                yield node.value

    def whose_topic_matches(self, pattern: str) -> Iterator[T]:
        """The values whose topics match a pattern."""
        for node in self._search(self._root, pattern.split("/"), 0):
            if node.value is not None:
                yield node.value

    def _follow(
        self, node: _Node[T], levels: list[str], depth: int
    ) -> Iterator[_Node[T]]:
        # A wildcard in the first level does not match the broker's own topics.
        is_hidden = depth == 0 and levels[0].startswith("$")
        rest = None if is_hidden else node.children.get("#")
        if rest is not None:
            yield rest
        if depth == len(levels):
            yield node
            return
        names = (levels[depth],) if is_hidden else (levels[depth], "+")
        for name in names:
            child = node.children.get(name)
            if child is not None:
                yield from self._follow(child, levels, depth + 1)

    def _search(
        self, node: _Node[T], levels: list[str], depth: int
    ) -> Iterator[_Node[T]]:
        if depth == len(levels):
            yield node
        elif levels[depth] == "#":
            yield from self._below(node, depth)
        elif levels[depth] == "+":
            for name, child in node.children.items():
                if depth or not name.startswith("$"):
                    yield from self._search(child, levels, depth + 1)
        else:
            child_or_none = node.children.get(levels[depth])
            if child_or_none is not None:
                yield from self._search(child_or_none, levels, depth + 1)

    def _below(self, node: _Node[T], depth: int) -> Iterator[_Node[T]]:
        yield node
        for name, child in node.children.items():
            if depth or not name.startswith("$"):
                yield from self._below(child, depth + 1)
