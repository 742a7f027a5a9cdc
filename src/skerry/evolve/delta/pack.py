"""Write the smallest delta: the candidates, and what each is made of."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from skerry.evolve.delta._zstd import LARGE_BYTES, WINDOW_LOG, compress
from skerry.evolve.delta.apply import piece_values, scale_codes
from skerry.evolve.delta.diagonals import Matcher
from skerry.evolve.delta.kinds import (
    Codes,
    Folded,
    Kind,
    fold,
    planes_of,
    to_codes,
)
from skerry.evolve.delta.match import match, rows_of
from skerry.evolve.delta.onnx_file import read_onnx
from skerry.evolve.delta.plan import (
    HEADER,
    LARGEST_DICTIONARY_BYTES,
    LARGEST_KEPT_BYTES,
    LARGEST_PLAN_BYTES,
    MAGIC,
    MOST_PARTS,
    Change,
    Copy,
    Kept,
    Literal,
    Part,
    Place,
    Plan,
    Product,
    Scaling,
    Stream,
    write_plan,
)
from skerry.evolve.delta.planes import Layout, lanes_log_of, write_plane
from skerry.evolve.delta.tensors import Contents, Tensor
from skerry.evolve.delta.tflite_file import IDENTIFIER, read_tflite

_LEAST_TENSOR_BYTES = 64
"""Smaller ones are not worth a part of their own."""

_LEAST_COPY_BYTES = (24, 1 << 12)
"""Fewer equal bytes between changed ones are not worth a copy of their own; the second
where the first would make more parts than a plan may have."""

_PART_BITS = 48.0
_MOSTLY, _CLEARLY = 0.8, 0.6
_SAMPLE_BYTES = 1 << 18
_SAMPLES = 16


def read_contents(content: bytes) -> Contents:
    """Find the tensors of a model; of what is none that we know, nothing."""
    is_tflite = content[4:8] == IDENTIFIER
    try:
        return read_tflite(content) if is_tflite else read_onnx(content)
    except ValueError:
        return Contents()


def diff(old: bytes, new: bytes) -> bytes:
    """Write the delta that turns one blob into another.

    Args:
        old: What the device has.
        new: What it should have.

    Returns:
        The smallest of what can be written: tensors by how they differ, bytes by how
        they differ, what zstd makes of it with the old blob as its dictionary, and the
        new blob packed without the old one. The others are not tried where most of a
        blob is tensors, and those are clearly smaller; nor the last two where a blob
        is large, and will clearly not pack as small.
    """
    before, after = read_contents(old), read_contents(new)
    deltas = [_pack(old, new, before, after)]
    known = sum(one.size for one in after.tensors)
    is_small = deltas[0] is not None and len(deltas[0]) < _CLEARLY * len(new)
    if deltas[0] is not None and is_small and known > _MOSTLY * len(new):
        # Nearly all of it is tensors, of which nobody else knows more.
        return deltas[0]
    if after.tensors:
        deltas.append(_pack(old, new, Contents(), Contents()))
    best = min((len(one) for one in deltas if one is not None), default=len(new))
    if len(new) > LARGE_BYTES and best < _CLEARLY * _packed_estimate(new):
        # To pack all of it, only to throw that away, would take longest.
        return min((one for one in deltas if one is not None), key=len)
    deltas += [_write_whole(old, new, has_dictionary=False)]
    if len(old) <= LARGEST_DICTIONARY_BYTES:
        deltas.append(_write_whole(old, new, has_dictionary=True))
    return min((delta for delta in deltas if delta is not None), key=len)


def _pack(old: bytes, new: bytes, before: Contents, after: Contents) -> bytes | None:
    """Write a delta of what is the same and what differs."""
    packers = (
        _Packer(old, new, before, after, least_copy) for least_copy in _LEAST_COPY_BYTES
    )
    packed = (packer.pack() for packer in packers)
    return next((one for one in packed if one is not None), None)


def _write_whole(old: bytes, new: bytes, *, has_dictionary: bool) -> bytes | None:
    """Write a delta of literals alone."""
    parts: list[Part] = [Literal(size=len(new))] if new else []
    plan = Plan(
        old_size=len(old), new_size=len(new), parts=parts, has_dictionary=has_dictionary
    )
    return write_delta(old, new, plan, {}, new)


def write_delta(
    old: bytes,
    new: bytes,
    plan: Plan,
    values: dict[tuple[Kind, bool], Folded],
    literals: bytes,
) -> bytes | None:
    """Write a delta by a plan whose streams and sizes are not known yet.

    Args:
        old: The old blob.
        new: The new one.
        plan: What it is made of.
        values: Differences by stream, in the order in which they are taken.
        literals: All literal bytes.

    Returns:
        The delta, or None where its plan is larger than who applies it takes.
    """
    if len(plan.parts) > MOST_PARTS:
        return None
    packed = compress(
        literals,
        old if plan.has_dictionary else b"",
        window_log=WINDOW_LOG + 2 * plan.has_dictionary,
    )
    streams, payloads = [], []
    for key in sorted(values):
        stream, payload = _write_stream(key, values[key])
        streams.append(stream)
        payloads.append(payload)
    whole = write_plan(
        replace(
            plan,
            streams=tuple(streams),
            literal_size=len(literals),
            packed_size=len(packed),
        )
    )
    if len(whole) > LARGEST_PLAN_BYTES:
        return None
    packed_plan = compress(whole, window_log=WINDOW_LOG)
    hashes = (hashlib.sha256(one).digest() for one in (old, new))
    header = HEADER.pack(MAGIC, *hashes, len(packed_plan), len(whole))
    return b"".join([header, packed_plan, packed, *payloads])


def _write_stream(key: tuple[Kind, bool], values: Folded) -> tuple[Stream, bytes]:
    kind, is_foreseen = key
    lanes_log = lanes_log_of(len(values))
    layout = Layout(size=len(values), lanes=1 << lanes_log, piece=piece_values(kind))
    codings, payloads = [], []
    above = None
    for plane in planes_of(values):
        coding, payload = write_plane(plane, above, layout)
        codings.append(coding)
        payloads.append(payload)
        above = plane
    stream = Stream(
        kind=kind,
        is_foreseen=is_foreseen,
        size=len(values),
        lanes_log=lanes_log,
        planes=tuple(codings),
    )
    return stream, b"".join(payloads)


class _Packer:
    """Says what a new blob is made of, in its order.

    Args:
        old: The old blob.
        new: The new one.
        before: The old one's tensors.
        after: The new one's; none, to look at bytes alone.
        least_copy: How many equal bytes between changed ones are a part of their own.
    """

    def __init__(
        self,
        old: bytes,
        new: bytes,
        before: Contents,
        after: Contents,
        least_copy: int,
    ) -> None:
        self._least_copy = least_copy
        self._old, self._new = old, new
        self._old_bytes = np.frombuffer(old, np.uint8)
        self._new_bytes = np.frombuffer(new, np.uint8)
        self._matcher = Matcher(self._old_bytes)
        self._after = after
        self._tensors = {one.name: one for one in after.tensors}
        self._before = match(old, new, before.tensors, after.tensors)
        self._old_named = {one.name: one for one in before.tensors}
        self._parts: list[Part] = []
        self._kept: list[Kept] = []
        self._arrays: dict[str, int] = {}
        self._values: dict[tuple[Kind, bool], list[Folded]] = {}
        self._literals: list[bytes] = []

    def pack(self) -> bytes | None:
        """Write the delta."""
        self._keep_scales()
        end, diagonal = 0, 0
        for tensor in self._after.tensors:
            before = self._before.get(tensor.name)
            is_worth = tensor.size >= _LEAST_TENSOR_BYTES or tensor.name in self._arrays
            if not is_worth:
                continue
            next_diagonal = before.offset - tensor.offset if before else diagonal
            self._gap(end, tensor.offset, [diagonal, next_diagonal, 0])
            self._tensor(tensor, before)
            end, diagonal = tensor.end, next_diagonal
            if before is not None:
                diagonal = before.end - tensor.end
        self._gap(end, len(self._new), [diagonal, 0])
        plan = Plan(
            old_size=len(self._old),
            new_size=len(self._new),
            parts=self._parts,
            kept=self._kept,
        )
        values = {key: np.concatenate(some) for key, some in self._values.items()}
        return write_delta(self._old, self._new, plan, values, b"".join(self._literals))

    def _keep_scales(self) -> None:
        """Keep the new scales that other tensors are foreseen from."""
        wanted = [one.scale for one in self._after.tensors if one.scale]
        singles = [single for single, _ in self._after.products.values()]
        size = 0
        for name in dict.fromkeys([*singles, *wanted]):
            tensor = self._tensors.get(name)
            if tensor is None or tensor.kind is not Kind.FLOAT32:
                continue
            before = self._before.get(name)
            if before is None or before.size != tensor.size:
                continue
            if self._content(tensor) == self._old_content(before):
                continue
            size += tensor.size
            if size > LARGEST_KEPT_BYTES:
                return
            if name not in self._after.products:
                self._keep(tensor, before)
        for name, (single, array) in self._after.products.items():
            self._keep_product(name, single, array)

    def _keep_product(self, name: str, single: str, array: str) -> None:
        """Keep the scales of a sum: as a product, where they are one."""
        tensor, before = self._tensors.get(name), self._before.get(name)
        if tensor is None or before is None or tensor.kind is not Kind.FLOAT32:
            return
        if before.size != tensor.size or tensor.size > LARGEST_KEPT_BYTES // 4:
            return
        if self._content(tensor) == self._old_content(before):
            return
        for one in (single, array):
            needed, old = self._tensors.get(one), self._before.get(one)
            if needed is None or old is None or needed.kind is not Kind.FLOAT32:
                return
            if one not in self._arrays and old.size == needed.size:
                self._keep(needed, old)
        if single not in self._arrays or array not in self._arrays:
            return
        factors = [
            np.frombuffer(self._content(self._tensors[one]), "<f4")
            for one in (single, array)
        ]
        if factors[0].size == 1:
            made = (factors[0] * factors[1]).astype("<f4").tobytes()
            if made == self._content(tensor):
                product = Product(
                    single=self._arrays[single], array=self._arrays[array]
                )
                self._arrays[name] = len(self._kept)
                self._kept.append(product)
                return
        self._keep(tensor, before)

    def _keep(self, tensor: Tensor, before: Tensor) -> None:
        change = Change(kind=tensor.kind, size=tensor.size, offset=before.offset)
        self._add(change, self._differences(tensor, before))
        self._arrays[tensor.name] = len(self._kept)
        self._kept.append(change)

    def _tensor(self, tensor: Tensor, before: Tensor | None) -> None:
        """Add what a tensor is made of."""
        content = self._content(tensor)
        if before is not None and content == self._old_content(before):
            self._copy(before.offset, tensor.size)
            return
        if tensor.name in self._arrays:
            self._parts.append(Place(array=self._arrays[tensor.name]))
            return
        ways = self._ways(tensor, before)
        prices = [_price(values) for _, values in ways]
        cheapest = int(np.argmin(prices))
        if _packed_bits(content) < prices[cheapest]:
            self._literal(content)
            return
        change, values = ways[cheapest]
        self._add(change, values)
        self._parts.append(change)

    def _ways(
        self, tensor: Tensor, before: Tensor | None
    ) -> list[tuple[Change, Folded]]:
        """How a tensor's values may be foreseen, with what is left."""
        codes = to_codes(tensor.kind, self._content(tensor))
        plain = Change(kind=tensor.kind, size=tensor.size)
        ways = [(plain, fold(tensor.kind, codes, np.zeros_like(codes)))]
        if before is None:
            return ways
        if before.size != tensor.size:
            rows = rows_of(before, tensor)
            if rows is not None and tensor.kind is not Kind.INT4:
                ways.append(self._rows_way(tensor, before, codes, rows))
            return ways
        same = replace(plain, offset=before.offset)
        ways.append((same, self._differences(tensor, before)))
        scaling = self._scaling(tensor, before)
        if scaling is not None:
            old_codes = to_codes(tensor.kind, self._old_content(before))
            scales = self._scales(tensor, before)
            foreseen = scale_codes(tensor.kind, old_codes, scales, scaling.inner)
            scaled = replace(same, scaling=scaling)
            ways.append((scaled, fold(tensor.kind, codes, foreseen)))
        return ways

    def _rows_way(
        self, tensor: Tensor, before: Tensor, codes: Codes, rows: tuple[int, int]
    ) -> tuple[Change, Folded]:
        row, old_row = rows
        old_codes = to_codes(tensor.kind, self._old_content(before))
        old_codes = old_codes.reshape(-1, old_row)
        foreseen = np.zeros((len(codes) // row, row), codes.dtype)
        both = min(row, old_row)
        foreseen[:, :both] = old_codes[:, :both]
        change = Change(
            kind=tensor.kind,
            size=tensor.size,
            offset=before.offset,
            row=row,
            old_row=old_row,
        )
        return change, fold(tensor.kind, codes, foreseen.ravel())

    def _scaling(self, tensor: Tensor, before: Tensor) -> Scaling | None:
        """How old values are to be scaled, where both have scales that changed."""
        array = self._arrays.get(tensor.scale)
        scale = self._tensors.get(tensor.scale)
        old_scale = self._old_named.get(before.scale)
        if array is None or scale is None or old_scale is None:
            return None
        if old_scale.size != scale.size or tensor.kind.is_float:
            return None
        return Scaling(
            offset=old_scale.offset,
            array=array,
            channels=scale.size // 4,
            inner=tensor.inner if scale.size > 4 else 1,
        )

    def _scales(self, tensor: Tensor, before: Tensor) -> tuple[np.ndarray, np.ndarray]:
        old = self._old_content(self._old_named[before.scale])
        new = self._content(self._tensors[tensor.scale])
        return np.frombuffer(old, "<f4"), np.frombuffer(new, "<f4")

    def _differences(self, tensor: Tensor, before: Tensor) -> Folded:
        codes = to_codes(tensor.kind, self._content(tensor))
        return fold(
            tensor.kind, codes, to_codes(tensor.kind, self._old_content(before))
        )

    def _gap(self, start: int, end: int, hints: Sequence[int]) -> None:
        """Add bytes that are in no tensor."""
        for hint in hints:
            low = start + hint
            if low >= 0 and self._old[low : low + end - start] == self._new[start:end]:
                self._copy(low, end - start)
                return
        for run in self._matcher.find_runs(self._new_bytes, start, end, hints):
            if run.offset is None:
                self._literal(self._new[run.start : run.start + run.size])
            else:
                self._changed(run.start, run.offset, run.size)

    def _changed(self, start: int, offset: int, size: int) -> None:
        """Add bytes that are much like old ones: equal ones are copied."""
        new = self._new_bytes[start : start + size]
        old = self._old_bytes[offset : offset + size]
        edges = np.flatnonzero(new != old)
        if not edges.size:
            self._copy(offset, size)
            return
        # Changed bytes that are near one another are one change.
        splits = np.flatnonzero(np.diff(edges) > self._least_copy)
        firsts = [int(edges[0]), *(int(edges[one + 1]) for one in splits)]
        lasts = [*(int(edges[one]) for one in splits), int(edges[-1])]
        end = 0
        for first, last in zip(firsts, lasts, strict=True):
            self._copy(offset + end, first - end)
            end = last + 1
            change = Change(kind=Kind.BYTES, size=end - first, offset=offset + first)
            codes = [one[first:end].view(np.int8) for one in (new, old)]
            self._add(change, fold(Kind.BYTES, codes[0], codes[1]))
            self._parts.append(change)
        self._copy(offset + end, size - end)

    def _copy(self, offset: int, size: int) -> None:
        if not size:
            return
        last = self._parts[-1] if self._parts else None
        if isinstance(last, Copy) and last.offset + last.size == offset:
            self._parts[-1] = Copy(offset=last.offset, size=last.size + size)
        else:
            self._parts.append(Copy(offset=offset, size=size))

    def _literal(self, content: bytes) -> None:
        if not content:
            return
        self._literals.append(content)
        last = self._parts[-1] if self._parts else None
        if isinstance(last, Literal):
            self._parts[-1] = Literal(size=last.size + len(content))
        else:
            self._parts.append(Literal(size=len(content)))

    def _add(self, change: Change, values: Folded) -> None:
        self._values.setdefault(change.stream, []).append(values)

    def _content(self, tensor: Tensor) -> bytes:
        return self._new[tensor.offset : tensor.end]

    def _old_content(self, tensor: Tensor) -> bytes:
        return self._old[tensor.offset : tensor.end]


def _packed_estimate(content: bytes) -> float:
    """About how many bytes a large blob takes packed alone, by samples all over it."""
    step = len(content) // _SAMPLES
    size = _SAMPLE_BYTES // _SAMPLES
    some = b"".join(content[at * step : at * step + size] for at in range(_SAMPLES))
    return len(compress(some)) * len(content) / len(some)


def _packed_bits(content: bytes) -> float:
    """About how many bits bytes take when zstd packs them."""
    some = content[:_SAMPLE_BYTES]
    return 8.0 * len(compress(some, window_log=WINDOW_LOG)) * len(content) / len(some)


def _price(values: Folded) -> float:
    """About how many bits differences take: the entropy of their planes."""
    bits = _PART_BITS
    for plane in planes_of(values):
        counts = np.bincount(plane, minlength=256)
        used = counts[counts > 0]
        bits -= float((used * np.log2(used / len(plane))).sum())
    return bits
