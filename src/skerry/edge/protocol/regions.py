"""Shared memory of clients: the system shared-memory extension of the protocol.

A client makes a POSIX shared-memory object, registers it under a name, and then names
places in it instead of sending tensors ("System Shared Memory Extension" in Triton's
protocol documentation). Inputs are views of it, outputs are copied into it.

What is not the gateway's user's own is not opened, nor is a link. An object that was
unlinked is dead: its client has gone, or a crashed client's resource tracker has tidied
up after it; it is dropped when the next one is registered or asked for. A client could
still cut its object short while it is read, which ends a process (SIGBUS): its size is
looked at before each use, and who has the same user could end the process anyway.
"""

from __future__ import annotations

import mmap
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from skerry.core.errors import ConflictError, DataError, UsageError

FOLDER = Path("/dev/shm")  # noqa: S108 (where POSIX shared memory lies on Linux)
"""Where shared-memory objects lie."""

MOST_REGIONS = 64
"""Most regions that are registered at once."""

LARGEST_BYTES = 1 << 30
"""Most bytes of all of them together."""

_LONGEST_NAME = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where in a region a tensor lies.

    Attributes:
        region: The region's name.
        offset: Where it begins in the region, in bytes.
        size_bytes: How many bytes there are; None: what is left of the region.
    """

    region: str
    offset: int = 0
    size_bytes: int | None = None

    def of(self, regions: Regions | None) -> memoryview:
        """The bytes of this place.

        Raises:
            DataError: The client may name no shared memory, or the place is outside.
            UsageError: There is no such region.
        """
        if regions is None:
            raise DataError(
                "shared memory is not offered here",
                hint="Send the tensors' bytes with the request.",
            )
        return regions.view(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """A part of a shared-memory object, by the name that a client gave it.

    Attributes:
        name: The region's name.
        key: The name of the shared-memory object.
        offset: Where the region begins in it, in bytes.
        size_bytes: How many bytes it has.
    """

    name: str
    key: str
    offset: int
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Mapped:
    region: Region
    descriptor: int
    view: memoryview


class Regions:
    """The regions that clients have registered; on the event loop's thread.

    Args:
        folder: Where shared-memory objects lie.
        most: Most regions at once.
        largest_bytes: Most bytes of all of them together.
        user: The user whose objects are opened; that of this process by default.
    """

    def __init__(
        self,
        *,
        folder: Path = FOLDER,
        most: int = MOST_REGIONS,
        largest_bytes: int = LARGEST_BYTES,
        user: Callable[[], int] = os.geteuid,
    ) -> None:
        self._folder = folder
        self._most = most
        self._largest_bytes = largest_bytes
        self._user = user
        self._mapped: dict[str, _Mapped] = {}

    def register(self, region: Region) -> None:
        """Open a region.

        Raises:
            DataError: It is outside of its object, or cannot be one.
            UsageError: There is no such object, or it is another user's.
            ConflictError: The name is taken, or there are too many.
        """
        _check(region)
        self._drop_dead()
        held_bytes = sum(m.region.size_bytes for m in self._mapped.values())
        if region.name in self._mapped:
            raise ConflictError(
                f"the shared-memory region {region.name!r} is registered already",
                hint="Unregister it first.",
            )
        if (
            len(self._mapped) >= self._most
            or held_bytes + region.size_bytes > self._largest_bytes
        ):
            raise ConflictError(
                f"{len(self._mapped)} regions of {held_bytes} bytes are registered, "
                f"expected at most {self._most} of {self._largest_bytes}",
                hint="Unregister what is no longer used.",
            )
        descriptor = self._open(region)
        try:
            view = _map(descriptor, region)
        except BaseException:
            os.close(descriptor)
            raise
        self._mapped[region.name] = _Mapped(
            region=region, descriptor=descriptor, view=view
        )

    def unregister(self, name: str = "") -> None:
        """Forget a region, or all of them; one that is not there is no fault."""
        for each in [name] if name else list(self._mapped):
            mapped = self._mapped.pop(each, None)
            if mapped is not None:  # memory goes with the last tensor that views it
                os.close(mapped.descriptor)

    def status(self, name: str = "") -> tuple[Region, ...]:
        """What is registered, or one of it.

        Raises:
            UsageError: There is no such region.
        """
        self._drop_dead()
        if name:
            return (self._find(name).region,)
        return tuple(mapped.region for mapped in self._mapped.values())

    def view(self, place: Place) -> memoryview:
        """The bytes of a place in a region; a client may change them at any time.

        Raises:
            UsageError: There is no such region.
            DataError: The place is outside of it, or its object was cut short.
        """
        mapped = self._find(place.region)
        region = mapped.region
        size_bytes = place.size_bytes
        if size_bytes is None:
            size_bytes = region.size_bytes - place.offset
        end = place.offset + size_bytes
        if place.offset < 0 or size_bytes < 0 or end > region.size_bytes:
            raise DataError(
                f"bytes {place.offset} to {end} of the shared-memory region "
                f"{region.name!r} are asked for, it has {region.size_bytes}",
                hint="Check the tensor's offset and byte size.",
            )
        if os.fstat(mapped.descriptor).st_size < region.offset + region.size_bytes:
            self.unregister(region.name)
            raise DataError(
                f"the shared-memory region {region.name!r} was cut short",
                hint="Register it again.",
            )
        return mapped.view[place.offset : end]

    def write(self, place: Place, content: memoryview, *, name: str) -> int:
        """Put an output into its place.

        Returns:
            How many bytes it has.

        Raises:
            UsageError: There is no such region.
            DataError: It does not fit.
        """
        piece = self.view(place)
        if content.nbytes > piece.nbytes:
            raise DataError(
                f"output {name!r} has {content.nbytes} bytes, its place in the "
                f"shared-memory region {place.region!r} has {piece.nbytes}",
                hint="Give it more room.",
            )
        piece[: content.nbytes] = content
        return content.nbytes

    def _find(self, name: str) -> _Mapped:
        mapped = self._mapped.get(name)
        if mapped is None:
            raise UsageError(
                f"there is no shared-memory region {name[:80]!r}",
                hint="Register it first.",
            )
        return mapped

    def _drop_dead(self) -> None:
        for name, mapped in list(self._mapped.items()):
            if os.fstat(mapped.descriptor).st_nlink == 0:
                self.unregister(name)

    def _open(self, region: Region) -> int:
        path = self._folder / region.key.removeprefix("/")
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        try:
            descriptor = os.open(path, flags)
        except (OSError, ValueError) as error:
            raise UsageError(
                f"the shared-memory object {region.key!r} cannot be opened: {error}",
                hint="Create it first, as the user that the gateway runs as.",
            ) from error
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != self._user():
            os.close(descriptor)
            raise UsageError(
                f"the shared-memory object {region.key!r} is not the gateway's user's",
                hint="Create it as the user that the gateway runs as.",
            )
        return descriptor


def _check(region: Region) -> None:
    inner = region.key.removeprefix("/")
    if (
        not inner
        or inner in {".", ".."}
        or len(inner) > _LONGEST_NAME
        or not inner.isprintable()
        or "/" in inner
    ):
        raise DataError(
            f"{region.key[:80]!r} cannot be the key of a shared-memory object",
            hint="It is a name with no slash but a leading one (shm_overview(7)).",
        )
    if not region.name or len(region.name) > _LONGEST_NAME:
        raise DataError(
            f"{region.name[:80]!r} cannot be the name of a region",
            hint=f"Give it 1 to {_LONGEST_NAME} characters.",
        )
    if region.size_bytes < 1 or region.offset < 0:
        raise DataError(
            f"the region {region.name!r} has {region.size_bytes} bytes from "
            f"{region.offset} on, expected at least 1 from 0 on",
            hint="Check its offset and byte size.",
        )


def _map(descriptor: int, region: Region) -> memoryview:
    end = region.offset + region.size_bytes
    size_bytes = os.fstat(descriptor).st_size
    if end > size_bytes:
        raise DataError(
            f"the region {region.name!r} ends at {end}, the shared-memory object "
            f"{region.key!r} has {size_bytes} bytes",
            hint="Check its offset and byte size.",
        )
    start = region.offset - region.offset % mmap.ALLOCATIONGRANULARITY
    mapped = mmap.mmap(descriptor, end - start, offset=start)
    return memoryview(mapped)[region.offset - start :]
