"""Field samples: what gateways found worth a label, and the labels that people give.

A sample's message carries the frame itself, small enough for one: each input as its
dtype, its shape and its bytes, compressed by zlib and written in base64.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
import numpy as np
from sqlalchemy import Connection, RowMapping, func, insert, select, update

from skerry.cloud.database import Database, to_text
from skerry.cloud.tables import samples
from skerry.core.clock import Clock
from skerry.core.documents import Json
from skerry.core.errors import DataError, UsageError
from skerry.core.messages import Message
from skerry.core.release import ReleaseId
from skerry.core.seams import Array

MOST_INPUTS = 16
MOST_AXES = 8
LARGEST_INPUT_BYTES = 1 << 20
"""Most bytes of one input, unpacked."""

MOST_SAMPLES = 10_000
"""Most samples that are kept of one device."""

LONGEST_LABEL = 255
KINDS = ("uncertain", "random")

DTYPES = frozenset(
    {
        *("bool", "uint8", "uint16", "uint32", "uint64"),
        *("int8", "int16", "int32", "int64", "float16", "float32", "float64"),
    }
)
"""Dtypes that an input may have."""

_LARGEST_MS = 1 << 53


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldSample:
    """One field sample without its inputs.

    Attributes:
        id: Its name.
        device: Who sent it.
        release: Which release answered, `NAME/VERSION`.
        kind: Why it was chosen: `uncertain` or `random`.
        at_ms: When the frame was taken, milliseconds since 1970.
        prediction: What the release said.
        confidence: How sure it was, 0–1.
        source: The frame's source.
        frame: The frame's number there.
        notes: What the source knows of it.
        inputs: Each input's dtype and shape.
        label: What a person says it is, or None.
        labelled_at_ms: When they said so, or None.
    """

    id: str
    device: str
    release: str
    kind: str
    at_ms: int
    prediction: str
    confidence: float
    source: str
    frame: int
    notes: Mapping[str, str]
    inputs: Mapping[str, Json]
    label: str | None = None
    labelled_at_ms: int | None = None


class _Input(msgspec.Struct, frozen=True):
    dtype: str
    shape: list[int]
    zlib: str


class _Body(msgspec.Struct, frozen=True):
    release: str
    kind: str
    confidence: float
    prediction: str
    source: str
    frame: int
    captured_at_ms: int
    inputs: dict[str, _Input]
    notes: dict[str, str] = {}


def decode_inputs(inputs: object) -> dict[str, Array]:
    """Read the inputs of a sample from outside.

    Args:
        inputs: By name: `{"dtype", "shape", "zlib"}`, as the message holds them.

    Returns:
        One array an input.

    Raises:
        DataError: There are none or too many, one is too large, of another dtype, or
            its bytes are not what dtype and shape say.
    """
    try:
        read = msgspec.convert(inputs, dict[str, _Input])
    except (msgspec.ValidationError, OverflowError) as error:
        raise _bad(str(error)) from error
    if not 0 < len(read) <= MOST_INPUTS:
        raise _bad(f"it has {len(read)} inputs, 1 to {MOST_INPUTS} expected")
    return {name: _decode(name, one) for name, one in read.items()}


class Samples:
    """The field samples of a tenant.

    Args:
        database: Where they are.
        tenant: Whose they are.
        clock: Says when a label was given.
    """

    def __init__(self, database: Database, *, tenant: str, clock: Clock) -> None:
        self._database = database
        self._tenant = tenant
        self._clock = clock

    def take(
        self, connection: Connection, tenant: str, device: str, message: Message
    ) -> None:
        """Keep a `sample` message; a function for `Ingest.take`.

        Raises:
            DataError: It makes no sense, or the device has sent too many.
        """
        body = _read_body(message.body)
        decode_inputs(message.body.get("inputs"))
        count = select(func.count()).where(
            samples.c.tenant == tenant, samples.c.device == device
        )
        if (connection.execute(count).scalar() or 0) >= MOST_SAMPLES:
            raise DataError(
                f"{device} has sent {MOST_SAMPLES} samples already",
                hint="Lower `most` in the desired settings `collect`.",
            )
        fields = msgspec.to_builtins(body)
        inputs = fields.pop("inputs")
        connection.execute(
            insert(samples).values(
                tenant=tenant,
                id=_make_id(device, message),
                device=device,
                release=body.release,
                epoch=message.epoch,
                seq=message.seq,
                at_ms=body.captured_at_ms,
                kind=body.kind,
                document=to_text(
                    {
                        **fields,
                        "inputs": {
                            name: {"dtype": one["dtype"], "shape": one["shape"]}
                            for name, one in inputs.items()
                        },
                    }
                ),
                input=msgspec.json.encode(inputs),
            )
        )

    async def ls(
        self,
        *,
        release: str | None = None,
        labelled: bool | None = None,
        limit: int = 1000,
    ) -> tuple[FieldSample, ...]:
        """List samples without their inputs, the oldest first.

        Args:
            release: Only those of this release, `NAME/VERSION`.
            labelled: Only those with a label, or only those without.
            limit: How many at most.
        """
        table = samples
        query = select(*_LISTED).where(table.c.tenant == self._tenant)
        if release is not None:
            query = query.where(table.c.release == release)
        if labelled is not None:
            is_labelled = table.c.label.is_not(None)
            query = query.where(is_labelled if labelled else ~is_labelled)
        query = query.order_by(table.c.at_ms, table.c.id).limit(limit)

        def work(connection: Connection) -> tuple[FieldSample, ...]:
            rows = connection.execute(query).mappings().all()
            return tuple(_from_row(row) for row in rows)

        return await self._database.run(work)

    async def show(self, sample_id: str) -> tuple[FieldSample, dict[str, Json]]:
        """One sample, and its inputs as its message held them.

        Raises:
            DataError: There is none of this id.
        """
        row = await self._database.run(
            lambda connection: self._row(connection, sample_id)
        )
        return _from_row(row), msgspec.json.decode(row["input"])

    async def label(self, sample_id: str, label: str) -> FieldSample:
        """Say what a sample shows; a later label replaces an earlier one.

        Raises:
            DataError: There is none of this id.
            UsageError: The label is empty or too long.
        """
        if not 0 < len(label) <= LONGEST_LABEL:
            raise UsageError(
                f"a label has {len(label)} characters, 1 to {LONGEST_LABEL} expected",
                hint="Name the class.",
            )
        now_ms = self._clock.unix_ms()

        def work(connection: Connection) -> RowMapping:
            connection.execute(
                update(samples)
                .where(samples.c.tenant == self._tenant, samples.c.id == sample_id)
                .values(label=label, labelled_at_ms=now_ms)
            )
            return self._row(connection, sample_id)

        return _from_row(await self._database.run(work))

    async def labelled(
        self, release: str
    ) -> tuple[tuple[FieldSample, dict[str, Array]], ...]:
        """All labelled samples of a release with their inputs, the oldest first."""
        query = (
            select(samples)
            .where(samples.c.tenant == self._tenant, samples.c.release == release)
            .where(samples.c.label.is_not(None))
            .order_by(samples.c.at_ms, samples.c.id)
        )

        def work(
            connection: Connection,
        ) -> tuple[tuple[FieldSample, dict[str, Array]], ...]:
            rows = connection.execute(query).mappings().all()
            return tuple(
                (_from_row(row), decode_inputs(msgspec.json.decode(row["input"])))
                for row in rows
            )

        return await self._database.run(work)

    def _row(self, connection: Connection, sample_id: str) -> RowMapping:
        row = (
            connection.execute(
                select(samples).where(
                    samples.c.tenant == self._tenant, samples.c.id == sample_id
                )
            )
            .mappings()
            .first()
        )
        if row is None:
            raise DataError(
                f"there is no sample {sample_id[:80]!r}", hint="List them first."
            )
        return row


_LISTED = [column for column in samples.c if column.name != "input"]


def _from_row(row: RowMapping) -> FieldSample:
    document = msgspec.json.decode(row["document"])
    return FieldSample(
        id=row["id"],
        device=row["device"],
        release=row["release"],
        kind=row["kind"],
        at_ms=row["at_ms"],
        prediction=document["prediction"],
        confidence=document["confidence"],
        source=document["source"],
        frame=document["frame"],
        notes=document["notes"],
        inputs=document["inputs"],
        label=row["label"],
        labelled_at_ms=row["labelled_at_ms"],
    )


def _make_id(device: str, message: Message) -> str:
    """The same message gives the same id."""
    place = f"{device}/{message.epoch}/{message.seq}"
    return hashlib.sha256(place.encode()).hexdigest()[:20]


def _read_body(fields: Mapping[str, Json]) -> _Body:
    try:
        body = msgspec.convert(fields, _Body)
    except (msgspec.ValidationError, OverflowError) as error:
        raise _bad(str(error)) from error
    ReleaseId.parse(body.release)
    if body.kind not in KINDS:
        raise _bad(f"its kind is {body.kind[:40]!r}, expected one of {KINDS}")
    if not 0 <= body.confidence <= 1:
        raise _bad(f"its confidence is {body.confidence}, expected 0 to 1")
    if not 0 <= body.captured_at_ms < _LARGEST_MS or not 0 <= body.frame < _LARGEST_MS:
        raise _bad("its frame or its time is out of range")
    return body


def _decode(name: str, one: _Input) -> Array:
    if one.dtype not in DTYPES:
        raise _bad(f"input {name[:40]!r} is of dtype {one.dtype[:40]!r}")
    dtype = np.dtype(one.dtype)
    if len(one.shape) > MOST_AXES or min(one.shape, default=1) < 1:
        raise _bad(f"input {name[:40]!r} has the shape {one.shape[:MOST_AXES]}")
    size_bytes = math.prod(one.shape) * dtype.itemsize
    if size_bytes > LARGEST_INPUT_BYTES:
        raise _bad(
            f"input {name[:40]!r} has {size_bytes} bytes, at most "
            f"{LARGEST_INPUT_BYTES} expected"
        )
    try:
        packed = base64.b64decode(one.zlib, validate=True)
        unpacking = zlib.decompressobj()
        content = unpacking.decompress(packed, size_bytes + 1)
    except (binascii.Error, ValueError, zlib.error) as error:
        raise _bad(f"input {name[:40]!r} cannot be unpacked: {error}") from error
    if len(content) != size_bytes or not unpacking.eof:
        raise _bad(f"input {name[:40]!r} does not have the {size_bytes} bytes it says")
    return np.frombuffer(content, dtype).reshape(one.shape).copy()


def _bad(why: str) -> DataError:
    return DataError(
        f"a sample makes no sense: {why}", hint="Upgrade Skerry on the gateway."
    )
