"""Label queries: which devices of a fleet, by their labels.

The syntax is that of Kubernetes' label selectors ("Labels and Selectors", Kubernetes
documentation): requirements separated by commas, all of which must hold.

```
site=oslo,tier!=test,model in (a,b),zone notin (x),camera,!retired
```

As there, `!=` and `notin` hold for a device that has no such label.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from skerry.core.errors import UsageError

LONGEST_QUERY = 2000
"""Most characters of a query."""

_REQUIREMENT = re.compile(
    r"""\s*(?:
        (?P<key>[\w./-]+)\s*(?P<op>==|=|!=)\s*(?P<value>[\w.:/+-]*)
      | (?P<set_key>[\w./-]+)\s+(?P<set_op>in|notin)\s*\((?P<values>[^()]*)\)
      | (?P<absent>!?)\s*(?P<there>[\w./-]+)
    )\s*(?:,(?=\s*\S)|\Z)""",
    re.VERBOSE,
)
_VALUE = re.compile(r"[\w.:/+-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """One part of a query.

    Attributes:
        key: The label's name.
        op: What must hold of it.
        values: What it is compared with; empty where it only has to be there or not.
    """

    key: str
    op: Literal["in", "notin", "exists", "absent"]
    values: frozenset[str] = frozenset()

    def holds(self, labels: Mapping[str, str]) -> bool:
        """Whether a device with these labels is meant."""
        return _HOLDS[self.op](labels.get(self.key), self.values)


_HOLDS: Mapping[str, Callable[[str | None, frozenset[str]], bool]] = {
    "in": lambda value, values: value in values,
    "notin": lambda value, values: value not in values,
    "exists": lambda value, _: value is not None,
    "absent": lambda value, _: value is None,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What a device's labels must be; without requirements every device is meant.

    Example:
        >>> parse_query("site=oslo,!retired").matches({"site": "oslo"})
        True
    """

    requirements: tuple[Requirement, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether a device with these labels is meant."""
        return all(one.holds(labels) for one in self.requirements)


def parse_query(text: str) -> Query:
    """Read a label query.

    Raises:
        UsageError: It is none; the message shows where it goes wrong.
    """
    if len(text) > LONGEST_QUERY:
        raise UsageError(
            f"a query of {len(text)} characters, at most {LONGEST_QUERY} expected",
            hint="Give the devices a label of their own to ask for.",
        )
    found, at = [], 0
    while text[at:].strip():
        match = _REQUIREMENT.match(text, at)
        if match is None:
            raise UsageError(
                f"a label query makes no sense from here on: {text[at : at + 80]!r}",
                hint="Write it as for Kubernetes: site=oslo,tier!=test,model in (a,b),"
                "!retired.",
            )
        found.append(_requirement(match))
        at = match.end()
    return Query(requirements=tuple(found))


def _requirement(match: re.Match[str]) -> Requirement:
    parts = match.groupdict()
    if parts["key"]:
        op: Literal["in", "notin"] = "notin" if parts["op"] == "!=" else "in"
        return Requirement(key=parts["key"], op=op, values=frozenset({parts["value"]}))
    if parts["there"]:
        is_absent = bool(parts["absent"])
        return Requirement(key=parts["there"], op="absent" if is_absent else "exists")
    values = [value.strip() for value in parts["values"].split(",")]
    wrong = [value for value in values if not _VALUE.fullmatch(value)]
    if wrong:
        raise UsageError(
            f"a label query compares with {wrong[0][:80]!r}, which no label can be",
            hint="Values are letters, digits and . : / + - _.",
        )
    return Requirement(
        key=parts["set_key"],
        op="notin" if parts["set_op"] == "notin" else "in",
        values=frozenset(values),
    )
