"""Which tensor of an old model a tensor of the new one comes from."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from skerry.evolve.delta.plan import is_near
from skerry.evolve.delta.tensors import Tensor

_SAMPLE_BYTES = 1 << 16
_MOST_COMPARED = 64


def match(
    old: bytes, new: bytes, olds: Sequence[Tensor], news: Sequence[Tensor]
) -> dict[str, Tensor]:
    """Find for each new tensor the old one that it is a version of.

    First by name, kind and shape; then, among those of one kind and shape that are
    left, by which is most alike; then by name, where one dimension has another length.

    Returns:
        Old tensors by the new one's name.
    """
    named = {one.name: one for one in olds}
    found: dict[str, Tensor] = {}
    for one in news:
        before = named.get(one.name)
        if before is not None and _form(before) == _form(one):
            found[one.name] = before
    free = {one.name for one in olds} - {one.name for one in found.values()}
    _match_alike(old, new, [named[name] for name in named if name in free], news, found)
    free -= {one.name for one in found.values()}
    for one in news:
        before = named.get(one.name)
        if before is None or before.name not in free or one.name in found:
            continue
        if rows_of(before, one) is not None:
            found[one.name] = before
    return found


def rows_of(before: Tensor, after: Tensor) -> tuple[int, int] | None:
    """How long rows of the new and of the old tensor are, where only that differs.

    A dimension with all behind it is a row; the first one of all needs no rows: what is
    too long or too short there is at the end.
    """
    if before.kind != after.kind or len(before.shape) != len(after.shape):
        return None
    pairs = zip(before.shape, after.shape, strict=True)
    differing = [axis for axis, (one, two) in enumerate(pairs) if one != two]
    if len(differing) != 1:
        return None
    inner = before.shape[differing[0] + 1 :]
    rest = int(np.prod(inner, dtype=np.int64))
    old_row, row = (one.shape[differing[0]] * rest for one in (before, after))
    return (row, old_row) if is_near(row, old_row) else None


def _form(tensor: Tensor) -> tuple[object, ...]:
    return tensor.kind, tensor.shape, tensor.size


def _match_alike(
    old: bytes,
    new: bytes,
    free: Sequence[Tensor],
    news: Sequence[Tensor],
    found: dict[str, Tensor],
) -> None:
    """Match renamed tensors, each with the one that is most alike."""
    by_form = defaultdict(list)
    for one in free:
        by_form[_form(one)].append(one)
    for one in news:
        some = by_form.get(_form(one))
        if one.name in found or not some:
            continue
        content = _sample(new, one)
        distances = [
            _distance(_sample(old, other), content) for other in some[:_MOST_COMPARED]
        ]
        found[one.name] = some.pop(int(np.argmin(distances)))


def _sample(content: bytes, tensor: Tensor) -> np.ndarray:
    size = min(tensor.size, _SAMPLE_BYTES)
    return np.frombuffer(content, np.uint8, size, tensor.offset)


def _distance(old: np.ndarray, new: np.ndarray) -> float:
    """How unlike bytes are, on average."""
    steps = (new - old).view(np.int8).astype(np.int16)
    return float(np.abs(steps).mean()) if steps.size else 0.0
