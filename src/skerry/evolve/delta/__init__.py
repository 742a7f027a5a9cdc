"""A delta: the bytes that turn one blob into another; it understands models.

Two versions of a model have the same layers, and nearly the same weights: a delta finds
the tensors of both, subtracts one from the other (modulo 2^bits; integers whose scale
has changed are first brought to the new scale), and codes what is left by how large it
is thereabouts. Bytes between tensors, and blobs that are no models, are found in the
old blob where they are the same or nearly so.

A delta has the hashes of both blobs. It is not signed itself: whoever applies one knows
from signed metadata what the result must be. All of it is pure.

- `diff` writes the smallest delta of several; it looks into ONNX files itself, without
  `onnx`. Files of other formats are bytes.
- `rebuild` applies one piece by piece, in a few megabytes of memory whatever the size
  of the model: it need know nothing of models, for the delta says where things are.
"""

from __future__ import annotations

from skerry.evolve.delta.apply import Read, reads_of, rebuild
from skerry.evolve.delta.pack import diff

__all__ = ["Read", "diff", "patch", "reads_of", "rebuild"]


def patch(old: bytes, delta: bytes, *, largest_bytes: int) -> bytes:
    """Apply a delta to a blob in memory; see `rebuild`.

    Args:
        old: The blob that it starts from.
        delta: What `diff` wrote.
        largest_bytes: Most bytes that the new blob may have.

    Raises:
        DataError: It is no delta, is damaged, starts from another blob, or gives more
            than allowed.
    """
    pieces = rebuild(reads_of(old), reads_of(delta), largest_bytes=largest_bytes)
    return b"".join(pieces)
