"""Teachers: loaded models of any runtime, asked once for each sample.

What a fixed model answers for a sample does not change, so it is kept by the hash of
the sample: epochs that come back to the same samples, in whatever order, cost no second
inference. Augmented samples are others, and are asked for anew.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np

from skerry.core.errors import DataError, ModelError
from skerry.core.model import TensorSpec
from skerry.core.seams import Array, Session
from skerry.runtimes.torch import Tensor, torch

KEPT_BYTES = 1 << 28
"""Most bytes of answers that are kept; what is beyond is asked for anew."""

Answer = dict[str, Tensor]
"""One teacher's outputs for a batch, by name."""

_Row = tuple[tuple[Array, ...], ...]
"""For one sample, the outputs of each teacher."""


class Teachers:
    """Models that answer for the student's inputs.

    Args:
        sessions: At least one; their outputs do not depend on what else is in a batch.
        names: What the student's inputs are called, in order. A teacher whose inputs
            have other names is given them in order.
        kept_bytes: Most bytes of answers that are kept.

    Raises:
        DataError: There is none.
    """

    def __init__(
        self,
        sessions: Sequence[Session],
        *,
        names: tuple[str, ...],
        kept_bytes: int = KEPT_BYTES,
    ) -> None:
        if not sessions:
            raise DataError(
                "there is no teacher", hint="Give at least one model as teacher."
            )
        self._sessions = tuple(sessions)
        self._names = names
        self._kept: dict[bytes, _Row] = {}
        self._left_bytes = kept_bytes

    def answer(self, inputs: tuple[Tensor, ...]) -> tuple[Answer, ...]:
        """Answer for a batch, one answer a teacher, where the inputs lie.

        Raises:
            DataError: The inputs are none that a teacher takes.
            ModelError: A teacher answers NaN or infinity.
            RuntimeFailure: Its runtime failed.
        """
        arrays = [one.numpy(force=True) for one in inputs]
        keys = [_key(rows) for rows in zip(*arrays, strict=True)]
        rows = {key: self._kept[key] for key in keys if key in self._kept}
        fresh = {key: place for place, key in enumerate(keys) if key not in rows}
        if fresh:
            places = list(fresh.values())
            asked = self._ask([array[places] for array in arrays])
            for key, row in zip(fresh, asked, strict=True):
                rows[key] = row
                self._keep(key, row)
        return tuple(
            {
                spec.name: torch.from_numpy(
                    np.stack([rows[key][teacher][output] for key in keys])
                ).to(inputs[0].device)
                for output, spec in enumerate(session.outputs)
            }
            for teacher, session in enumerate(self._sessions)
        )

    def _ask(self, arrays: Sequence[Array]) -> Iterable[_Row]:
        told = [_run(session, self._names, arrays) for session in self._sessions]
        for place in range(len(arrays[0])):
            yield tuple(tuple(array[place] for array in outputs) for outputs in told)

    def _keep(self, key: bytes, row: _Row) -> None:
        size_bytes = sum(array.nbytes for outputs in row for array in outputs)
        if size_bytes <= self._left_bytes:
            # A view would hold the whole batch.
            self._kept[key] = tuple(
                tuple(array.copy() for array in outputs) for outputs in row
            )
            self._left_bytes -= size_bytes


def _key(rows: Sequence[Array]) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for row in rows:
        digest.update(np.ascontiguousarray(row).data)
    return digest.digest()


def _run(
    session: Session, names: tuple[str, ...], arrays: Sequence[Array]
) -> list[Array]:
    """Run a batch, in as many pieces as a model of a fixed batch needs."""
    specs = _matching(session.inputs, names, arrays)
    fixed = specs[0].shape[0]
    count = len(arrays[0])
    size = fixed if isinstance(fixed, int) else count
    found: list[list[Array]] = []
    for start in range(0, count, size):
        pieces = [array[start : start + size] for array in arrays]
        length = len(pieces[0])
        # Repeated to the fixed size: what is too much is cut off again.
        given = {
            spec.name: np.resize(piece, (size, *piece.shape[1:]))
            if length < size and isinstance(fixed, int)
            else piece
            for spec, piece in zip(specs, pieces, strict=True)
        }
        outputs = session.run(given)
        for name, array in outputs.items():
            _check_answer(name, array, size)
        found.append([outputs[spec.name][:length] for spec in session.outputs])
    return [np.concatenate(parts) for parts in zip(*found, strict=True)]


def _matching(
    specs: tuple[TensorSpec, ...], names: tuple[str, ...], arrays: Sequence[Array]
) -> list[TensorSpec]:
    """A teacher's inputs in the order of the student's.

    Raises:
        DataError: It takes something else.
    """
    by_name = {spec.name: spec for spec in specs}
    ordered = [by_name[n] for n in names] if set(by_name) == set(names) else [*specs]
    fits = len(ordered) == len(arrays) and all(
        spec.dtype == array.dtype.name
        and spec.shape
        and TensorSpec(name="", dtype="", shape=spec.shape[1:]).accepts(array.shape[1:])
        for spec, array in zip(ordered, arrays, strict=True)
    )
    if not fits:
        given = ", ".join(
            f"{name} {array.dtype.name}{list(array.shape)}"
            for name, array in zip(names, arrays, strict=True)
        )
        raise DataError(
            f"the teacher takes {', '.join(map(str, specs))}, the student is given "
            f"{given}",
            hint="Give a teacher that takes the same inputs, prepared alike.",
        )
    return ordered


def _check_answer(name: str, array: Array, count: int) -> None:
    if array.ndim == 0 or len(array) != count:
        raise ModelError(
            f"the teacher's output {name} has shape {array.shape} for {count} samples",
            hint="Give a teacher whose outputs have one row a sample.",
        )
    if not np.isfinite(array).all():
        raise ModelError(
            f"the teacher's output {name} holds NaN or infinity",
            hint="Look for NaN in the samples and in the teacher's weights.",
        )
