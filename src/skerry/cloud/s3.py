"""Blobs in an S3-compatible store, named by URL; the only door to obstore.

```
s3://BUCKET[/PREFIX][?endpoint=URL][&region=NAME]      PREFIX/AA/SHA256
```

Who the hub is at the store stands in the environment alone (`AWS_ACCESS_KEY_ID`,
`AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`), never in the URL, which gets into logs.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from skerry.cloud.blobs import PIECE_BYTES, Blobs, no_blob, outside
from skerry.core.errors import MissingExtraError, StorageError, UsageError

try:
    import obstore
    from obstore.exceptions import BaseError
    from obstore.store import S3Store
except ImportError as error:
    raise MissingExtraError("obstore", extra="s3") from error

DEFAULT_REGION = "us-east-1"
"""What stores of other makers take, too."""

_CHECKED_KEY = "skerry-hub-is-here"
_RETRY_TIMEOUT = timedelta(seconds=30)
_HINT = "Write s3://BUCKET/PREFIX?endpoint=https://HOST&region=NAME."


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Place:
    """Where in a store the blobs are.

    Attributes:
        bucket: The bucket; it exists.
        prefix: What all keys begin with, or empty.
        endpoint: The store's URL; None for Amazon's own.
        region: Of the bucket.
    """

    bucket: str
    prefix: str = ""
    endpoint: str | None = None
    region: str = ""


def read_s3_url(url: str) -> S3Place:
    """Read the URL of a store.

    Raises:
        UsageError: It is none, or carries a secret.

    Example:
        >>> read_s3_url("s3://fleet/blobs?endpoint=http://127.0.0.1:9000").prefix
        'blobs'
    """
    try:
        parts = urlsplit(url)
        asked = parse_qsl(parts.query, strict_parsing=bool(parts.query))
    except ValueError as error:
        raise UsageError("the URL of the blobs is none", hint=_HINT) from error
    options = dict(asked)
    if "@" in parts.netloc or not set(options) <= {"endpoint", "region"}:
        raise UsageError(
            f"the URL of the blobs holds more than a place: {sorted(set(options))}",
            hint=f"{_HINT} Keys go into AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.",
        )
    endpoint = options.get("endpoint")
    is_url = endpoint is None or endpoint.startswith(("http://", "https://"))
    if parts.scheme != "s3" or not parts.netloc or parts.fragment or not is_url:
        raise UsageError(f"{url[:100]!r} is no place of an S3 store", hint=_HINT)
    return S3Place(
        bucket=parts.netloc,
        prefix=parts.path.strip("/"),
        endpoint=endpoint,
        region=options.get("region", DEFAULT_REGION),
    )


class S3Blobs(Blobs):
    """Blobs in an S3-compatible store; a folder holds only what is on its way there.

    Args:
        folder: The hub's folder.
        url: The store's.

    Raises:
        UsageError: The URL is none.
    """

    def __init__(self, folder: Path, url: str) -> None:
        super().__init__(folder)
        self._url = url
        place = read_s3_url(url)
        with _store_errors(url):
            self._store = S3Store(
                place.bucket,
                prefix=place.prefix or None,
                endpoint=place.endpoint,
                region=place.region,
                client_options={"allow_http": True, "timeout": "60s"},
                retry_config={"max_retries": 3, "retry_timeout": _RETRY_TIMEOUT},
            )

    async def start(self) -> None:
        """Remove what a crash left half-sent, and see that the store lets us in.

        Raises:
            StorageError: The disk or the store refused.
        """
        await super().start()
        with _store_errors(self._url):
            await obstore.put_async(self._store, _CHECKED_KEY, b"")

    async def open(
        self, sha256: str, *, offset: int = 0, end: int | None = None
    ) -> AsyncIterator[bytes]:
        """Give a blob in pieces, from an offset on and before an end.

        Raises:
            DataError: There is no such blob, or the offset lies outside it.
            StorageError: The store failed.
        """
        size_bytes = await self.stat(sha256)
        if size_bytes is None:
            raise no_blob(sha256)
        if not 0 <= offset <= size_bytes:
            raise outside(sha256, size_bytes, offset)
        end = size_bytes if end is None else min(end, size_bytes)
        if offset >= end:
            return
        with _store_errors(self._url):
            found = await obstore.get_async(
                self._store, _key(sha256), options={"range": (offset, end)}
            )
            async for piece in found.stream(min_chunk_size=PIECE_BYTES):
                yield bytes(piece)

    async def stat(self, sha256: str) -> int | None:
        """The blob's size in bytes, or None where there is none.

        Raises:
            DataError: That is not a hash.
            StorageError: The store failed.
        """
        self.path(sha256)
        with _store_errors(self._url):
            try:
                return (await obstore.head_async(self._store, _key(sha256)))["size"]
            except FileNotFoundError:
                return None

    async def _put_in_place(self, part: Path, sha256: str) -> None:
        with _store_errors(self._url):
            await obstore.put_async(self._store, _key(sha256), part)
        await asyncio.to_thread(part.unlink)


def _key(sha256: str) -> str:
    return f"{sha256[:2]}/{sha256}"


@contextmanager
def _store_errors(url: str) -> Iterator[None]:
    try:
        yield
    except (BaseError, OSError, ValueError) as error:
        # Behind the first line stand the library's own details.
        reason = str(error).strip().partition("\n")[0]
        raise StorageError(
            f"the store {url} refused: {reason[:300]}",
            hint="Is it up, does the bucket exist, and do AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY let us in?",
        ) from error
