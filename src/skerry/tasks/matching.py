"""Whose embedding it is: a vector against a gallery of known ones."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from skerry.core.errors import DataError, UsageError
from skerry.core.seams import Array
from skerry.tasks import _npz
from skerry.tasks.decoders import Embedding
from skerry.tasks.prediction import Prediction

MOST_ENTRIES = 1 << 20
"""Most vectors of a gallery."""

LARGEST_GALLERY_BYTES = 1 << 28
"""Most bytes of a gallery's vectors in memory."""

LONGEST_NAME = 200

_NAMES, _VECTORS = "names", "vectors"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Gallery:
    """Those who are known; a name may stand for several vectors.

    Attributes:
        names: One a vector.
        vectors: float32 [n, D], each of length 1.
    """

    names: tuple[str, ...]
    vectors: NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """Whom a vector shows.

    Attributes:
        name: The name of the nearest vector; None where none is near enough.
        similarity: Its cosine, -1 to 1.
    """

    name: str | None
    similarity: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedMatch:
    """Read a vector, and find whose it is in the gallery that comes with the task.

    The nearest vector by cosine counts (rank 1 of identification, ISO/IEC 19795-1);
    below the threshold it is nobody's.

    Attributes:
        threshold: The lowest cosine of a match, -1 to 1.
    """

    version: ClassVar[int] = 1

    threshold: float = 0.5

    def __post_init__(self) -> None:
        """Refuse a threshold that is no cosine."""
        if not -1 <= self.threshold <= 1:
            raise UsageError(
                f"embed_match: the threshold is {self.threshold}, expected -1 to 1",
                hint="Choose it from the embeddings of people who are not the same.",
            )

    def decode(self, scores: Array, labels: Sequence[str]) -> Prediction:
        """Read the vector, brought to length 1, as `embedding` does."""
        return Embedding().decode(scores, labels)

    def match(self, vector: NDArray[np.float64], gallery: Gallery) -> Match:
        """Find the nearest vector.

        Args:
            vector: float [D], of length 1; what is not finite is nobody's.
            gallery: Those who are known.

        Raises:
            DataError: The gallery's vectors are of another length.
        """
        size = gallery.vectors.shape[1]
        if vector.shape != (size,):
            raise DataError(
                f"the model gives {vector.size} numbers, the gallery's vectors have "
                f"{size}",
                hint="Make the gallery with the same model.",
            )
        cosines = gallery.vectors @ vector.astype(np.float32)
        if not len(cosines) or not np.isfinite(cosines).all():
            return Match(name=None, similarity=-1.0)
        best = int(cosines.argmax())
        similarity = min(1.0, max(-1.0, float(cosines[best])))
        is_known = similarity >= self.threshold
        return Match(
            name=gallery.names[best] if is_known else None, similarity=similarity
        )


def read_gallery(content: bytes, *, name: str) -> Gallery:
    """Read a gallery: an `.npz` with `names`, text [n], and `vectors`, float [n, D].

    Args:
        content: All of the file.
        name: Whose it is, for messages.

    Raises:
        DataError: It is no such file, is damaged, or holds more than fits.
    """
    with _npz.open_npz(content, name=name) as archive:
        members = _npz.read_members(archive, name=name)
        _check(members, name)
        with closing(_npz.read_rows(archive, members[_NAMES])) as rows:
            names = tuple(str(row[()]) for row in rows)
        with closing(_npz.read_rows(archive, members[_VECTORS])) as rows:
            vectors = np.array(list(rows), dtype=np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        lengths = np.sqrt(np.square(vectors).sum(axis=1, keepdims=True))
    is_right = bool((np.isfinite(lengths) & (lengths > 0)).all())
    if not is_right or any(not 0 < len(one) <= LONGEST_NAME for one in names):
        raise DataError(
            f"{name} holds a vector without a direction, or a name that is none",
            hint=f"Names have 1 to {LONGEST_NAME} characters, vectors finite numbers.",
        )
    return Gallery(names=names, vectors=(vectors / lengths).astype(np.float32))


def _check(members: dict[str, _npz.Member], name: str) -> None:
    got = ", ".join(f"{m.name}: {m.dtype} {m.shape}" for m in members.values())
    names, vectors = members.get(_NAMES), members.get(_VECTORS)
    if (
        names is None
        or vectors is None
        or len(members) != 2
        or (names.dtype.kind, len(names.shape)) != ("U", 1)
        or (vectors.dtype.kind, len(vectors.shape)) != ("f", 2)
        or names.shape[0] != vectors.shape[0]
        or not 1 <= names.shape[0] <= MOST_ENTRIES
        or names.shape[0] * vectors.shape[1] * 8 > LARGEST_GALLERY_BYTES
        or names.row_bytes > 4 * LONGEST_NAME
        or not vectors.shape[1]
    ):
        raise DataError(
            f"{name} holds {got[:200] or 'nothing'}; expected names, text [n], and "
            f"vectors, float [n, D], n from 1 to {MOST_ENTRIES}",
            hint="numpy.savez(path, names=np.array([...]), vectors=vectors)",
        )
