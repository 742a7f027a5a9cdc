"""Versions of what goes into a model and comes out of it, and how to go between them.

A release speaks one input schema and one output schema, and carries adapters from what
older producers send and to what older consumers read. Versions are names: that one is
older than another is known only from which adapter leads where.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from skerry.core.errors import DataError
from skerry.core.model import TensorSpec

MOST_ADAPTERS = 16
"""Most adapters of a release, for each of its two sides."""

MOST_TENSORS = 64
"""Most tensors of a schema."""

_LONGEST_VERSION = 32
_NUMBERS = frozenset({"bool", "float16", "float32", "float64"}) | {
    f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)
}
_TEXTS = frozenset({"str", "object", "bfloat16"})
"""What can be passed on, and not be changed by numbers."""
_LARGEST_SIZE = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Schemas:
    """What producers send and what consumers read.

    Attributes:
        input: The version of the input schema.
        output: The version of the output schema.
    """

    input: str = "1"
    output: str = "1"

    def __str__(self) -> str:
        return f"{self.input}/{self.output}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """How one tensor of a schema is made from those of another.

    Attributes:
        tensor: Its name.
        source: What it is called in the other schema; the same where empty.
        factor: What values are multiplied by, for another unit.
        offset: What is added then.
        default: Its value throughout where the other schema lacks it, or None.
        resize: Whether a tensor of another size is interpolated to its size.
    """

    tensor: str
    source: str = ""
    factor: float = 1.0
    offset: float = 0.0
    default: float | None = None
    resize: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaAdapter:
    """Another schema, and how to go between it and one nearer to the release's own.

    Attributes:
        version: The schema's.
        to: The version that it leads to: the release's own, or that of another adapter.
        tensors: What the schema is made of.
        changes: On the input side how tensors of `to` are made from those of the
            schema, on the output side how the schema's are made from those of `to`.
            Tensors without a change are taken as they are, by name.
    """

    version: str
    to: str
    tensors: tuple[TensorSpec, ...]
    changes: tuple[Change, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SpokenSchemas:
    """All that a release says of its schemas, as it stands in a file.

    Attributes:
        schema: `skerry.schemas/1`.
        input: The version that it takes without any adapter.
        output: The version that it gives without any.
        input_adapters: What older producers send, and how it is made fit.
        output_adapters: What older consumers read, and how it is made for them.
    """

    schema: Literal["skerry.schemas/1"] = "skerry.schemas/1"
    input: str = "1"
    output: str = "1"
    input_adapters: tuple[SchemaAdapter, ...] = ()
    output_adapters: tuple[SchemaAdapter, ...] = ()


def way(
    version: str, own: str, adapters: Iterable[SchemaAdapter]
) -> tuple[SchemaAdapter, ...] | None:
    """The adapters that lead from a version to a release's own, in this order.

    Args:
        version: What is spoken.
        own: The release's own version.
        adapters: Those of one side, at most one a version.

    Returns:
        None where no way leads there; empty where both are the same.
    """
    known = {one.version: one for one in adapters}
    found: list[SchemaAdapter] = []
    while version != own:
        adapter = known.pop(version, None)
        if adapter is None:
            return None
        found.append(adapter)
        version = adapter.to
    return tuple(found)


def check_adapters(own: str, adapters: Sequence[SchemaAdapter], *, name: str) -> None:
    """Check that each adapter leads to a release's own schema.

    Args:
        own: The release's own version.
        adapters: Those of one side.
        name: Whose they are, for messages.

    Raises:
        DataError: A version cannot be one or stands there twice, an adapter leads
            nowhere, or a tensor or a number makes no sense.
    """
    versions = [own, *(one.version for one in adapters)]
    version, times = Counter(versions).most_common(1)[0]
    if times > 1:
        wrong = f"has two ways to take the schema {version!r}"
    elif len(adapters) > MOST_ADAPTERS:
        wrong = f"has {len(adapters)} adapters, at most {MOST_ADAPTERS} expected"
    elif unfit := [one for one in versions if not _is_version(one)]:
        wrong = f"names a schema {unfit[0][:80]!r}"
    elif lost := [one for one in versions if way(one, own, adapters) is None]:
        wrong = f"has no way from the schema {lost[0]!r} to its own, {own!r}"
    else:
        wrong = next((what for one in adapters if (what := _fault(one))), "")
    if wrong:
        raise DataError(
            f"{name} {wrong}",
            hint="Lead each older schema, by adapters, to the release's own.",
        )


def check_changes(
    adapters: Sequence[SchemaAdapter],
    own: Sequence[TensorSpec],
    *,
    is_input: bool,
    name: str,
) -> None:
    """Check that adapters make each tensor that is needed, of what they are given.

    Args:
        adapters: Those of one side, checked by `check_adapters`.
        own: The model's own inputs, or outputs.
        is_input: Which side it is.
        name: Whose they are, for messages.

    Raises:
        DataError: A tensor could not be made.
    """
    schemas = {one.version: one.tensors for one in adapters}
    for adapter in adapters:
        nearer = schemas.get(adapter.to, tuple(own))
        given, made = (
            (adapter.tensors, nearer) if is_input else (nearer, adapter.tensors)
        )
        known = {spec.name: spec for spec in given}
        changes = {one.tensor: one for one in adapter.changes}
        for spec in made:
            change = changes.pop(spec.name, Change(tensor=spec.name))
            source = known.get(change.source or spec.name)
            what = _unmakeable(spec, source, change)
            if what:
                raise DataError(
                    f"{name}: the adapter of schema {adapter.version!r} cannot make "
                    f"{spec}: {what}",
                    hint="Name its source, or give it a default; say resize = true "
                    "where sizes differ.",
                )
        if changes:
            raise DataError(
                f"{name}: the adapter of schema {adapter.version!r} changes "
                f"{next(iter(changes))!r}, which is no tensor that it makes",
                hint="A change names the tensor that it makes.",
            )


def _is_version(text: str) -> bool:
    return 0 < len(text) <= _LONGEST_VERSION and text.isprintable() and "/" not in text


def _fault(adapter: SchemaAdapter) -> str:
    names = [spec.name for spec in adapter.tensors]
    made = [one.tensor for one in adapter.changes]
    numbers = [number for one in adapter.changes for number in (one.factor, one.offset)]
    numbers += [one.default for one in adapter.changes if one.default is not None]
    of = f"of the schema {adapter.version!r}"
    if not 0 < len(names) <= MOST_TENSORS or len(set(names)) < len(names):
        return f"has {len(names)} tensors {of}, expected 1 to {MOST_TENSORS}, all named"
    if len(made) > MOST_TENSORS or len(set(made)) < len(made):
        return f"changes a tensor {of} twice"
    if not all(math.isfinite(number) for number in numbers):
        return f"has a change {of} with a number that is not finite"
    for spec in adapter.tensors:
        sizes = [size for size in spec.shape if isinstance(size, int)]
        if spec.dtype not in {*_NUMBERS, *_TEXTS} or not all(
            0 < n <= _LARGEST_SIZE for n in sizes
        ):
            return f"has a tensor {of} that cannot be: {spec}"
    return ""


def _unmakeable(spec: TensorSpec, source: TensorSpec | None, change: Change) -> str:
    """Say why a tensor cannot be made; empty if it can."""
    is_touched = change != Change(tensor=change.tensor, source=change.source)
    if source is None:
        return "" if change.default is not None else "its source is missing"
    are_numbers = {spec.dtype, source.dtype} <= _NUMBERS
    if (is_touched or source.dtype != spec.dtype) and not are_numbers:
        return f"{source.dtype} cannot be changed by numbers"
    if len(source.shape) != len(spec.shape):
        return f"{source} has another number of dimensions"
    pairs = zip(source.shape, spec.shape, strict=True)
    differ = any(
        isinstance(one, int) and isinstance(other, int) and one != other
        for one, other in pairs
    )
    return "its source has another size" if differ and not change.resize else ""
