from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import httpx
import pytest

from skerry.cloud.blobs import PIECE_BYTES
from skerry.cloud.hub import Hub, HubSettings
from skerry.cloud.s3 import DEFAULT_REGION, S3Blobs, S3Place, read_s3_url
from skerry.core.errors import DataError, StorageError, UsageError

CONTENT = bytes(range(256)) * 5000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """An S3-compatible store of others' making, on a port of this machine."""
    server = pytest.importorskip("moto.server")
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    url = f"http://{host}:{port}"
    for bucket in ("fleet", "other"):
        # The first request has it read all that Amazon serves.
        httpx.put(f"{url}/{bucket}", timeout=60).raise_for_status()
    yield url
    running.stop()


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "someone")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")


def with_blobs(
    folder: Path, url: str, case: Callable[[S3Blobs], Awaitable[None]]
) -> None:
    """Run a case on a started store."""

    async def story() -> None:
        blobs = S3Blobs(folder, url)
        await blobs.start()
        await case(blobs)

    asyncio.run(story())


async def pieces(content: bytes) -> AsyncIterator[bytes]:
    """As an upload comes."""
    for start in range(0, len(content), 1000):
        yield content[start : start + 1000]


def test_a_blob_comes_back(tmp_path: Path, endpoint: str) -> None:
    """Any range of it, in pieces; nothing stays on the hub's own disk."""

    async def case(blobs: S3Blobs) -> None:
        assert await blobs.stat(SHA256) is None
        assert await blobs.put_stream(SHA256, pieces(CONTENT)) == len(CONTENT)
        await blobs.put(SHA256, CONTENT)
        assert await blobs.stat(SHA256) == len(CONTENT)
        for first, last in ((0, None), (777, None), (5, 900_000), (len(CONTENT), None)):
            given = blobs.open(SHA256, offset=first, end=last)
            got = [piece async for piece in given]
            assert b"".join(got) == CONTENT[first:last]
            assert max(map(len, got), default=0) <= 4 * PIECE_BYTES

    with_blobs(tmp_path, f"s3://fleet/some/where?endpoint={endpoint}", case)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_what_is_not_there_or_is_another_is_said(tmp_path: Path, endpoint: str) -> None:
    """The same errors as of a folder; two prefixes know nothing of each other."""

    async def case(blobs: S3Blobs) -> None:
        with pytest.raises(DataError, match="no blob"):
            await anext(blobs.open(SHA256))
        with pytest.raises(DataError, match="cannot name a blob"):
            await blobs.stat("../secret")
        with pytest.raises(DataError, match="has the hash"):
            await blobs.put(SHA256, CONTENT[1:])
        assert await blobs.stat(SHA256) is None
        await blobs.put(SHA256, CONTENT)
        with pytest.raises(DataError, match="was asked for"):
            await anext(blobs.open(SHA256, offset=len(CONTENT) + 1))

    with_blobs(tmp_path, f"s3://other?endpoint={endpoint}&region=eu-west-1", case)


def test_a_store_that_does_not_let_us_in_is_a_storage_error(
    tmp_path: Path, endpoint: str
) -> None:
    """At the start already, with what to look at."""

    async def case(_: S3Blobs) -> None:
        raise AssertionError

    with pytest.raises(StorageError, match="refused") as caught:
        with_blobs(tmp_path, f"s3://nowhere?endpoint={endpoint}", case)
    assert "AWS_ACCESS_KEY_ID" in caught.value.hint
    assert "secret" not in caught.value.what


def test_a_hub_keeps_its_blobs_there(tmp_path: Path, endpoint: str) -> None:
    """By its setting alone."""
    url = f"s3://fleet/hub?endpoint={endpoint}"
    assert isinstance(Hub(HubSettings(folder=tmp_path, blobs=url)).blobs, S3Blobs)


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("s3://b", S3Place(bucket="b", region=DEFAULT_REGION)),
        ("s3://b/x/y/", S3Place(bucket="b", prefix="x/y", region=DEFAULT_REGION)),
        (
            "s3://b?endpoint=https://host:9000&region=r",
            S3Place(bucket="b", endpoint="https://host:9000", region="r"),
        ),
    ],
)
def test_a_place_is_read(url: str, place: S3Place) -> None:
    """Bucket, prefix, endpoint and region."""
    assert read_s3_url(url) == place


@pytest.mark.parametrize(
    "url",
    [
        "",
        "s3://",
        "https://host/bucket",
        "s3://b?endpoint=host",
        "s3://b?x=1",
        "s3://b?endpoint",
        "s3://b#c",
        "s3://KEY:SECRET@b",
        "s3://b?secret_access_key=SECRET",
        "s3://[b",
    ],
)
def test_what_is_no_place_is_refused(url: str) -> None:
    """And what carries a secret, which the message does not repeat."""
    with pytest.raises(UsageError, match=r"the blobs|no place") as caught:
        read_s3_url(url)
    assert "SECRET" not in caught.value.what
