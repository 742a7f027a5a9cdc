from __future__ import annotations

import asyncio
import base64
import zlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import insert

from skerry.cloud import samples as samples_module
from skerry.cloud.database import Database, sqlite_url
from skerry.cloud.samples import Samples, decode_inputs
from skerry.cloud.tables import devices
from skerry.core.clock import FakeClock
from skerry.core.errors import ConflictError, DataError, UsageError
from skerry.core.messages import Message

PICTURE = np.arange(12, dtype=np.float32).reshape(1, 3, 4)


def packed(array: np.ndarray[Any, Any]) -> dict[str, Any]:
    """An input as a gateway sends it."""
    return {
        "dtype": array.dtype.name,
        "shape": list(array.shape),
        "zlib": base64.b64encode(zlib.compress(array.tobytes())).decode(),
    }


def body(**changes: Any) -> dict[str, Any]:
    """The body of a sample's message."""
    return {
        "release": "meter/1",
        "kind": "random",
        "confidence": 0.5,
        "prediction": "7",
        "source": "camera",
        "frame": 3,
        "captured_at_ms": 1000,
        "inputs": {"picture": packed(PICTURE)},
        "notes": {"recording": "fog.npz", "index": "3"},
        **changes,
    }


def message(seq: int, **changes: Any) -> Message:
    """A sample's message."""
    return Message(
        kind="sample",
        device="gate-1",
        epoch="e",
        seq=seq,
        sent_at_ms=1,
        body=body(**changes),
    )


def _run(folder: Path, work: Callable[[Database, Samples], Awaitable[None]]) -> None:
    """Run with a database in which one device is registered."""

    async def main() -> None:
        database = Database(sqlite_url(folder / "hub.sqlite"))
        try:
            await database.migrate()
            await database.run(
                lambda connection: (
                    connection.execute(
                        insert(devices).values(
                            tenant="main",
                            name="gate-1",
                            labels="{}",
                            created_at_ms=0,
                            is_online=False,
                        )
                    )
                    and None
                )
            )
            clock = FakeClock(unix_ms=5000)
            await work(database, Samples(database, tenant="main", clock=clock))
        finally:
            await database.close()

    asyncio.run(main())


async def take(database: Database, samples: Samples, *messages: Message) -> None:
    """Take messages as the hub's ingest does."""
    for one in messages:
        await database.run(
            lambda connection, one=one: samples.take(connection, "main", "gate-1", one)  # type: ignore[misc]
        )


def test_a_sample_is_kept_listed_and_shown(tmp_path: Path) -> None:
    """What a gateway sent comes back, its inputs bit by bit."""

    async def work(database: Database, samples: Samples) -> None:
        await take(database, samples, message(1), message(2, release="meter/2"))
        (first, second) = await samples.ls()
        assert (first.release, second.release) == ("meter/1", "meter/2")
        assert first.device == "gate-1"
        assert (first.kind, first.prediction, first.frame) == ("random", "7", 3)
        assert first.notes == {"recording": "fog.npz", "index": "3"}
        assert first.inputs == {"picture": {"dtype": "float32", "shape": [1, 3, 4]}}
        assert first.label is None
        shown, inputs = await samples.show(first.id)
        assert shown == first
        np.testing.assert_array_equal(decode_inputs(inputs)["picture"], PICTURE)

    _run(tmp_path, work)


def test_labels_are_given_and_replaced(tmp_path: Path) -> None:
    """The last label counts, with its time; lists can be narrowed by it."""

    async def work(database: Database, samples: Samples) -> None:
        await take(database, samples, message(1), message(2, captured_at_ms=2000))
        first, second = await samples.ls()
        await samples.label(first.id, "3")
        labelled = await samples.label(first.id, "8")
        assert (labelled.label, labelled.labelled_at_ms) == ("8", 5000)
        assert await samples.ls(labelled=True) == (labelled,)
        assert await samples.ls(labelled=False) == (second,)
        assert await samples.ls(release="meter/9") == ()
        assert await samples.ls(limit=1) == (labelled,)
        ((sample, inputs),) = await samples.labelled("meter/1")
        assert sample.label == "8"
        np.testing.assert_array_equal(inputs["picture"], PICTURE)

    _run(tmp_path, work)


def test_unknown_samples_and_bad_labels_are_refused(tmp_path: Path) -> None:
    """Each says what is wrong."""

    async def work(database: Database, samples: Samples) -> None:
        await take(database, samples, message(1))
        (sample,) = await samples.ls()
        with pytest.raises(DataError, match="no sample"):
            await samples.show("nothing")
        with pytest.raises(DataError, match="no sample"):
            await samples.label("nothing", "1")
        for label in ("", "x" * 256):
            with pytest.raises(UsageError, match="characters"):
                await samples.label(sample.id, label)

    _run(tmp_path, work)


def test_a_message_is_kept_once(tmp_path: Path) -> None:
    """The same number of the same outbox is one sample."""

    async def work(database: Database, samples: Samples) -> None:
        await take(database, samples, message(1))
        with pytest.raises(ConflictError):
            await take(database, samples, message(1))

    _run(tmp_path, work)


def test_a_device_sends_no_more_than_its_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the limit a message is rejected."""
    monkeypatch.setattr(samples_module, "MOST_SAMPLES", 2)

    async def work(database: Database, samples: Samples) -> None:
        await take(database, samples, message(1), message(2))
        with pytest.raises(DataError, match="2 samples already"):
            await take(database, samples, message(3))

    _run(tmp_path, work)


@pytest.mark.parametrize(
    "changes",
    [
        {"release": "no release"},
        {"release": 7},
        {"kind": "odd"},
        {"confidence": 1.5},
        {"confidence": float("nan")},
        {"frame": -1},
        {"captured_at_ms": 1 << 60},
        {"inputs": {}},
        {"inputs": None},
        {"notes": {"x": 1}},
    ],
)
def test_samples_that_make_no_sense_are_rejected(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    """Each field has a type and a range, and nothing is kept."""

    async def work(database: Database, samples: Samples) -> None:
        with pytest.raises(UsageError):
            await take(database, samples, message(1, **changes))
        assert await samples.ls() == ()

    _run(tmp_path, work)


def _changed(**changes: Any) -> dict[str, Any]:
    return {"x": {**packed(PICTURE), **changes}}


@pytest.mark.parametrize(
    ("inputs", "why"),
    [
        (_changed(dtype="object"), "dtype"),
        (_changed(dtype="float128"), "dtype"),
        (_changed(shape=[1, 3, 5]), "does not have"),
        (_changed(shape=[1, 3, 3]), "does not have"),
        (_changed(shape=[0]), "shape"),
        (_changed(shape=[-1, 12]), "shape"),
        (_changed(shape=[1] * 9), "shape"),
        (_changed(shape=[1 << 40]), "at most"),
        (_changed(zlib="%%%"), "unpacked"),
        (_changed(zlib="AAAA"), "unpacked"),
        (_changed(zlib=packed(PICTURE)["zlib"][:-8]), "does not have|unpacked"),
        ({str(i): packed(PICTURE) for i in range(17)}, "17 inputs"),
        ([1], "Expected"),
    ],
)
def test_inputs_that_make_no_sense_are_refused(inputs: object, why: str) -> None:
    """Strange dtypes and shapes, wrong sizes, what is no zlib."""
    with pytest.raises(DataError, match=why):
        decode_inputs(inputs)


def test_a_bomb_is_not_unpacked() -> None:
    """Bytes that unpack to more than they say are refused without unpacking them."""
    bomb = base64.b64encode(zlib.compress(bytes(50_000_000), 9)).decode()
    with pytest.raises(DataError, match="does not have the 48 bytes"):
        decode_inputs(_changed(zlib=bomb))


def test_a_number_without_axes_is_an_input() -> None:
    """A scalar has the shape []."""
    array = np.float64(2.5)
    inputs = decode_inputs({"x": packed(np.asarray(array))})
    assert inputs["x"].shape == ()
    assert inputs["x"] == array
