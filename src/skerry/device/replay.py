"""A camera that plays recordings: what it sees is in files, the truth stays in them."""

from __future__ import annotations

import asyncio
import logging
import zipfile
from collections.abc import AsyncGenerator, Generator
from contextlib import ExitStack, aclosing, closing
from pathlib import Path

from skerry.core.clock import Clock
from skerry.core.errors import DataError, UsageError
from skerry.core.seams import Array, Frame
from skerry.tasks import _npz
from skerry.tasks.samples import LABEL

log = logging.getLogger(__name__)

POLL_S = 0.5
"""How often a folder without recordings is looked into."""

LARGEST_FRAME_BYTES = 1 << 26
"""Most bytes of all arrays of one frame."""

_Rows = Generator[dict[str, Array], None, None]
_Mark = tuple[int, int]
"""When a file was changed, in ns, and its size: tells whether it is the same still."""


class ReplaySource:
    """Plays the recordings of a folder, in the order of their names.

    A recording is an `.npz` whose arrays are named after a model's inputs, the first
    axis that of the frames; an array `label` is the truth and is not shown. Each is
    played once; the last one is played again and again until a newer one, by its name,
    has come. Recordings are read a frame at a time. One that cannot be read is passed
    over, and tried again once it has changed.

    Args:
        folder: Where the recordings are, or will be; write them elsewhere and rename.
        frames_per_s: How many frames a second are played.
        clock: What it waits on.
        name: What the source is called.

    Raises:
        UsageError: The pace is not above 0.
    """

    def __init__(
        self,
        folder: Path,
        *,
        frames_per_s: float,
        clock: Clock,
        name: str = "camera",
    ) -> None:
        if not 0 < frames_per_s < float("inf"):
            raise UsageError(
                f"got {frames_per_s} frames a second, expected more than 0",
                hint="Say 20.",
            )
        self._folder = folder
        self._period_s = 1 / frames_per_s
        self._clock = clock
        self._name = name
        self._number = 0
        self._due_s = 0.0
        self._bad: dict[Path, _Mark] = {}

    async def frames(self) -> AsyncGenerator[Frame, None]:
        """Give frames at the pace asked for, for ever."""
        self._due_s = self._clock.wall_s()
        playing: Path | None = None
        while True:
            path, is_again = await asyncio.to_thread(self._next, playing)
            if path is None:
                playing = None
                await self._clock.sleep(POLL_S)
                self._due_s = self._clock.wall_s()
                continue
            playing = path
            async with aclosing(self._play(path, is_again=is_again)) as frames:
                async for frame in frames:
                    yield frame

    async def _play(self, path: Path, *, is_again: bool) -> AsyncGenerator[Frame, None]:
        """Play one recording; if it is not the first time, only until a newer came."""
        index = 0
        with closing(_read_frames(path)) as rows:
            while inputs := await asyncio.to_thread(self._advance, rows, path):
                if is_again:
                    newer = await asyncio.to_thread(self._newer, path)
                    if newer is not None:
                        return
                await self._wait()
                yield Frame(
                    source=self._name,
                    number=self._number,
                    captured_at_ms=self._clock.unix_ms(),
                    inputs=inputs,
                    notes={"recording": path.name, "index": str(index)},
                )
                self._number += 1
                index += 1

    def _advance(self, rows: _Rows, path: Path) -> dict[str, Array]:
        """The next frame's inputs; empty at the end and where the file is bad."""
        try:
            return next(rows, {})
        except DataError as error:
            log.warning(
                "recording.skipped", extra={"file": path.name, "why": error.what}
            )
            mark = _mark(path)
            if mark is not None:
                self._bad[path] = mark
            return {}

    async def _wait(self) -> None:
        """Wait until the next frame is due; what was missed is not made up for."""
        self._due_s = max(self._due_s + self._period_s, self._clock.wall_s())
        await self._clock.sleep(self._due_s - self._clock.wall_s())

    def _next(self, playing: Path | None) -> tuple[Path | None, bool]:
        """What is played now, and whether it was played just before."""
        newer = self._newer(playing)
        if newer is not None:
            return newer, False
        if playing is not None and self._is_good(playing):
            return playing, True
        return None, False

    def _newer(self, playing: Path | None) -> Path | None:
        names = (path for path in self._folder.glob("*.npz") if self._is_good(path))
        return min(
            (path for path in names if playing is None or path.name > playing.name),
            key=lambda path: path.name,
            default=None,
        )

    def _is_good(self, path: Path) -> bool:
        mark = _mark(path)
        return mark is not None and self._bad.get(path) != mark


def _mark(path: Path) -> _Mark | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size


def _read_frames(path: Path) -> _Rows:
    """Go through a recording, one row of each array at a time.

    Raises:
        DataError: It is no recording.
    """
    with _npz.open_npz(path, name=path.name) as archive, ExitStack() as stack:
        members = _read_members(archive, path.name)
        rows = {
            name: stack.enter_context(closing(_npz.read_rows(archive, member)))
            for name, member in members.items()
        }
        for _ in range(next(iter(members.values())).shape[0]):
            yield {name: next(stream)[None] for name, stream in rows.items()}


def _read_members(archive: zipfile.ZipFile, name: str) -> dict[str, _npz.Member]:
    members = _npz.read_members(archive, name=name)
    members.pop(LABEL, None)
    counts = {member.shape[0] for member in members.values()}
    frame_bytes = sum(member.row_bytes for member in members.values())
    if len(counts) != 1 or counts == {0} or not 0 < frame_bytes <= LARGEST_FRAME_BYTES:
        raise DataError(
            f"{name} has {len(members)} arrays with {sorted(counts)} frames of "
            f"{frame_bytes} bytes in all",
            hint="Give one array an input, each with as many frames.",
        )
    return members
