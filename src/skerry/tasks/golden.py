"""Golden samples: inputs with the outputs that a model gave for them.

A release carries them so that a device can tell whether its copy of the model, on its
own runtime, still computes what the publisher saw. They are kept in one `.npz`: a
member `header` (JSON text, schema `skerry.golden/1`) and one array for each input and
output of each sample.
"""

from __future__ import annotations

import io
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from skerry.core import durable
from skerry.core.documents import from_json
from skerry.core.errors import DataError, ModelError
from skerry.core.files import read_file
from skerry.core.seams import Array, Session, Tensors
from skerry.tasks import _npz
from skerry.tasks.evaluate import output_distance
from skerry.tasks.samples import SampleSource, take

GOLDEN_SCHEMA = "skerry.golden/1"

LARGEST_FILE_BYTES = 1 << 28
"""Most bytes of a file of golden samples, packed or unpacked."""

_HEADER = "header"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GoldenSample:
    """One sample and what the model gave for it.

    Attributes:
        name: Where it is from.
        inputs: One array an input, with a batch axis of 1.
        outputs: One array an output, as the session returned it.
    """

    name: str
    inputs: dict[str, Array]
    outputs: dict[str, Array]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Golden:
    """Golden samples.

    Attributes:
        samples: At least one.
        tolerance: Largest relative squared error of the outputs of one sample.
    """

    samples: tuple[GoldenSample, ...]
    tolerance: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenResult:
    """Whether a model still gives its golden outputs.

    Attributes:
        is_ok: Whether each sample is within the tolerance.
        worst: The largest relative squared error; infinite where the outputs are not
            finite or have other names or shapes.
        which: The name of the sample with that error.
        n_disagree: Number of samples beyond the tolerance.
    """

    is_ok: bool
    worst: float
    which: str
    n_disagree: int


class _SampleHeader(msgspec.Struct, frozen=True):
    name: str
    inputs: list[str]
    outputs: list[str]


class _Header(msgspec.Struct, frozen=True):
    schema: str
    tolerance: float
    samples: list[_SampleHeader]


def make_golden(
    session: Session,
    source: SampleSource,
    n: int,
    *,
    tolerance: float = 0.01,
    outputs: Collection[str] | None = None,
) -> Golden:
    """Run a model on a few samples and keep what it gives.

    Args:
        session: The loaded model, right by definition.
        source: Samples to take from, spread over all of it.
        n: How many to keep; fewer if there are not as many.
        tolerance: Largest relative squared error that counts as the same.
        outputs: Which outputs to keep; all of them where None.

    Raises:
        DataError: There are no samples, or one does not fit the model.
        ModelError: The model gives NaN or infinities.
        RuntimeFailure: The runtime failed.
    """
    samples = []
    for sample in take(source, n):
        given = session.run(sample.inputs)
        kept = {
            name: output
            for name, output in given.items()
            if outputs is None or name in outputs
        }
        check_finite(kept, sample=sample.name)
        samples.append(
            GoldenSample(name=sample.name, inputs=dict(sample.inputs), outputs=kept)
        )
    if not samples:
        raise DataError("there are no samples to keep", hint="Give some samples.")
    return Golden(samples=tuple(samples), tolerance=tolerance)


def check_finite(outputs: Tensors, *, sample: str) -> None:
    """Check that what a model gave can be a golden output.

    Raises:
        ModelError: There is a NaN or an infinity in it.
    """
    if not all(np.isfinite(output).all() for output in outputs.values()):
        raise ModelError(
            f"the model gives NaN or infinities for sample {sample}",
            hint="Check the model's weights and the sample's scale.",
        )


def check_golden(session: Session, golden: Golden) -> GoldenResult:
    """Run a model on golden samples and compare its outputs with those kept.

    Outputs of the model of which none was kept are not looked at: a model may give an
    embedding that the uncompressed one did not.

    Raises:
        DataError: The samples do not fit the model.
        RuntimeFailure: The runtime failed.
    """
    errors = [
        output_distance(sample.outputs, _kept(sample, session.run(sample.inputs)))
        for sample in golden.samples
    ]
    worst = int(np.argmax(errors))
    n_disagree = sum(error > golden.tolerance for error in errors)
    return GoldenResult(
        is_ok=n_disagree == 0,
        worst=errors[worst],
        which=golden.samples[worst].name,
        n_disagree=n_disagree,
    )


def _kept(sample: GoldenSample, outputs: dict[str, Array]) -> dict[str, Array]:
    return {name: outputs[name] for name in sample.outputs if name in outputs}


def save_golden(golden: Golden, path: Path) -> None:
    """Put golden samples in place as a file.

    Raises:
        StorageError: The disk refused.
    """
    durable.write_file(path, golden_to_bytes(golden))


def golden_to_bytes(golden: Golden) -> bytes:
    """Pack golden samples; the same samples give the same bytes."""
    header = _Header(
        schema=GOLDEN_SCHEMA,
        tolerance=golden.tolerance,
        samples=[
            _SampleHeader(
                name=sample.name,
                inputs=list(sample.inputs),
                outputs=list(sample.outputs),
            )
            for sample in golden.samples
        ],
    )
    # A leading axis of 1 makes each array, of any rank, one row of its member.
    arrays = {_HEADER: np.frombuffer(msgspec.json.encode(header), np.uint8)[None]}
    for row, sample in enumerate(golden.samples):
        for kind, tensors in (("in", sample.inputs), ("out", sample.outputs)):
            for column, array in enumerate(tensors.values()):
                arrays[_member(row, kind, column)] = array[None]
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]
    return stream.getvalue()


def load_golden(path: Path) -> Golden:
    """Read a file of golden samples.

    Raises:
        NewerSchemaError: It was written by a newer Skerry.
        DataError: It cannot be read, or is no file of golden samples.
    """
    content = read_file(path, largest_bytes=LARGEST_FILE_BYTES, error=DataError)
    return parse_golden(content, name=str(path))


def parse_golden(content: bytes, *, name: str) -> Golden:
    """Unpack golden samples.

    Args:
        content: All of a file.
        name: Whose content it is, for messages.

    Raises:
        NewerSchemaError: It was written by a newer Skerry.
        DataError: It is no file of golden samples, or unpacks to more than 256 MiB.
    """
    with _npz.open_npz(content, name=name) as archive:
        members = _npz.read_members(archive, name=name)
        size_bytes = sum(
            member.shape[0] * member.row_bytes for member in members.values()
        )
        if max(size_bytes, len(content)) > LARGEST_FILE_BYTES:
            raise DataError(
                f"{name} unpacks to {size_bytes} bytes, expected at most "
                f"{LARGEST_FILE_BYTES}",
                hint="Keep fewer golden samples.",
            )
        arrays = {
            member.name: next(_npz.read_rows(archive, member))
            for member in members.values()
            if member.shape[0] == 1
        }
    header = _parse_header(arrays.pop(_HEADER, None), name)
    try:
        samples = tuple(
            GoldenSample(
                name=sample.name,
                inputs=_tensors(arrays, row, "in", sample.inputs),
                outputs=_tensors(arrays, row, "out", sample.outputs),
            )
            for row, sample in enumerate(header.samples)
        )
    except KeyError as error:
        raise DataError(
            f"{name} has no array {error} that its header names",
            hint="The file is damaged: write it again.",
        ) from error
    return Golden(samples=samples, tolerance=header.tolerance)


def _parse_header(header: Array | None, name: str) -> _Header:
    content = b"" if header is None else header.tobytes()
    parsed = from_json(_Header, content, schema=GOLDEN_SCHEMA, name=name)
    if not parsed.samples or not 0 < parsed.tolerance < float("inf"):
        raise DataError(
            f"{name} has {len(parsed.samples)} golden samples and the tolerance "
            f"{parsed.tolerance:g}, expected some and a tolerance above 0",
            hint="Write one with save_golden.",
        )
    return parsed


def _tensors(
    arrays: dict[str, Array], row: int, kind: str, names: list[str]
) -> dict[str, Array]:
    return {
        name: arrays[_member(row, kind, column)] for column, name in enumerate(names)
    }


def _member(row: int, kind: str, column: int) -> str:
    return f"{row}_{kind}_{column}"
