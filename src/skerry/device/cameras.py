"""Cameras: network streams, devices and files, through PyAV.

Each camera has a thread of its own that waits for packets, and that decodes those that
`skerry.device.ingest` chooses where that takes long. A file is played at the pace it
was recorded at, and its pictures count as taken when they are due. A camera that fails
is tried again, later each time; nobody else notices.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import zlib
from collections import deque
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from skerry.core.allowance import ShortWork
from skerry.core.clock import Clock
from skerry.core.errors import DataError, LinkError, SkerryError, UsageError
from skerry.core.video import Attention, CameraHealth, CameraState, Shot
from skerry.device._video import (
    Decoded,
    Packet,
    Video,
    hide_secret,
    is_device,
    is_file,
)
from skerry.device.capture import BackOff, CaptureTimes, FilePace
from skerry.device.ingest import Ingest, Packets

log = logging.getLogger(__name__)

MOST_BAD = 100
"""So many pictures in a row that cannot be decoded end a connection."""

MOST_AT_ONCE = 4
"""More packets are decoded on the camera's own thread, however short each takes."""

READ_AHEAD = 5
"""So many packets of a file are read at a time."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraSettings:
    """What a camera is, and what it may cost.

    Attributes:
        name: What it is called.
        url: A file, a device (`/dev/video0`) or a URL that FFmpeg opens.
        sub_url: Its sub-stream, which is used where there is one.
        frames_per_s: Pictures beyond so many a second are not given; they are decoded
            only where others need them.
        wanted_rows: Of several streams at one URL, the smallest with so many rows.
        is_repeated: Whether a file is played again and again.
        start_s: How long to wait before it is opened: those of one box are staggered,
            for each needs a picture that stands alone first.
        timeout_s: How long a camera may say nothing.
        decode_share: How much of one CPU its decoding may take.
    """

    name: str
    url: str
    sub_url: str = ""
    frames_per_s: float = 5.0
    wanted_rows: int = 360
    is_repeated: bool = True
    start_s: float = 0.0
    timeout_s: float = 10.0
    decode_share: float = 0.25

    def __post_init__(self) -> None:
        """Refuse what no camera can be.

        Raises:
            UsageError: A rate, a share or a time is not above 0.
        """
        positive = (self.frames_per_s, self.timeout_s, self.decode_share)
        if not all(0 < one < float("inf") for one in positive) or self.start_s < 0:
            raise UsageError(
                f"camera {self.name}: got {self.frames_per_s} frames a second, a "
                f"timeout of {self.timeout_s} s, a share of {self.decode_share} and a "
                f"start after {self.start_s} s; expected more than 0, and 0 or more",
                hint="Leave them out for 5, 10, 0.25 and 0.",
            )


class VideoCamera:
    """A camera through PyAV; the seam `Camera`.

    Args:
        settings: What it is.
        clock: What measures time.
        short_work: Says whether a picture is decoded on the event loop's thread; the
            cameras of one loop share it.
        open_video: Opens its stream; `Video` by default.
    """

    def __init__(
        self,
        settings: CameraSettings,
        *,
        clock: Clock,
        short_work: ShortWork | None = None,
        open_video: Callable[..., Video] = Video,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._short_work = short_work or ShortWork()
        self._open_video = open_video
        self._url = settings.sub_url or settings.url
        self._is_paced = is_file(self._url)
        self._health = CameraHealth()
        self._attention = Attention.FULL
        self._times = CaptureTimes()
        self._ingest = Ingest(share=settings.decode_share)
        # Not chance: the same cameras come back in the same order.
        share = zlib.crc32(settings.name.encode()) / 0xFFFFFFFF
        self._back_off = BackOff(share=share)
        self._thread = self._make_thread()
        self._given_s = float("-inf")
        self._ahead: deque[tuple[Packet | None, float]] = deque()
        self._broken: SkerryError | None = None
        self._size: tuple[int, ...] = ()
        self._bad = 0

    @property
    def name(self) -> str:
        """What it is called."""
        return self._settings.name

    @property
    def health(self) -> CameraHealth:
        """How it does."""
        return replace(
            self._health,
            shed=self._ingest.shed,
            reason=self._health.reason or self._ingest.why,
        )

    def attend(self, attention: Attention) -> None:
        """Say how closely it is to be watched from now on."""
        self._attention = attention

    async def shots(self) -> AsyncGenerator[Shot, None]:
        """Give pictures for ever, or until a file that is not repeated has ended."""
        self._thread = self._make_thread()
        await self._clock.sleep(self._settings.start_s)
        try:
            while self._health.state is not CameraState.ENDED:
                try:
                    async with contextlib.aclosing(self._play()) as shots:
                        async for shot in shots:
                            yield shot
                    self._end()
                except SkerryError as error:
                    wait_s = self._back_off.fail()
                    self._note(state=CameraState.WAITING, reason=error.what)
                    log.warning(
                        "camera.failed",
                        extra={"camera": self.name, "why": error.what},
                    )
                    await self._clock.sleep(wait_s)
                    self._note(reconnects=self._health.reconnects + 1)
        finally:
            self._thread.shutdown(wait=False)

    def _make_thread(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(1, f"camera-{self.name}")

    def _end(self) -> None:
        """What follows the end of a stream: a file's next round, or an error."""
        if self._is_paced and not self._settings.is_repeated:
            self._note(state=CameraState.ENDED)
        elif self._is_paced and self._health.state is CameraState.LIVE:
            return
        elif self._is_paced:
            raise DataError(
                f"there is no picture in {hide_secret(self._url)}",
                hint="Give a camera's stream, or a video.",
            )
        else:
            raise LinkError(
                f"{hide_secret(self._url)} has ended", hint="It is tried again."
            )

    async def _play(self) -> AsyncGenerator[Shot, None]:
        """Give the pictures of one connection."""
        self._times.restart()
        self._ingest.restart()
        self._bad = 0
        self._ahead.clear()
        self._broken = None
        video = await self._run(self._open)
        period_s = 1 / (video.frames_per_s or self._settings.frames_per_s)
        pace = FilePace(begun_s=self._clock.wall_s(), period_s=period_s)
        try:
            packet, waited_s = await self._next(video)
            while packet is not None:
                captured_s = await self._place(packet, waited_s, pace)
                is_due, decoded = self._is_due(captured_s), None
                if (is_due or not video.is_intra_only) and (
                    chosen := self._chosen(packet, captured_s, period_s)
                ):
                    decoded = await self._decoded(video, chosen)
                # Given before the next is waited for, which a live camera takes a
                # period for.
                if decoded is not None and is_due:
                    self._given_s = captured_s
                    yield self._shot(decoded, captured_s, packet.size_bytes)
                packet, waited_s = await self._next(video)
        finally:
            # In its own thread: it may be used there until then.
            self._thread.submit(video.close)

    def _chosen(self, packet: Packet, captured_s: float, period_s: float) -> Packets:
        now_s = self._clock.wall_s()
        return self._ingest.take(
            packet,
            late_s=now_s - captured_s,
            period_s=period_s,
            now_s=now_s,
            attention=self._attention,
        )

    async def _place(self, packet: Packet, waited_s: float, pace: FilePace) -> float:
        """When the packet's picture was taken; that of a file is waited for."""
        lies = self._times.lies + pace.lies
        if self._is_paced:
            captured_s = pace.place(packet.pts_s)
            await self._clock.sleep(max(0.0, captured_s - self._clock.wall_s()))
        else:
            now_s = self._clock.wall_s()
            captured_s = self._times.place(packet.pts_s, now_s=now_s, waited_s=waited_s)
        told = self._times.lies + pace.lies - lies
        self._note(packets=self._health.packets + 1, lies=self._health.lies + told)
        return captured_s

    def _open(self) -> Video:
        return self._open_video(
            self._url,
            container="v4l2" if is_device(self._url) else "",
            timeout_s=self._settings.timeout_s,
            wanted_rows=self._settings.wanted_rows,
        )

    async def _next(self, video: Video) -> tuple[Packet | None, float]:
        """The next packet, and how long it was waited for."""
        if not self._ahead:
            if self._broken is not None:
                raise self._broken
            self._ahead.extend(await self._run(partial(self._read, video)))
        return self._ahead.popleft()

    def _read(self, video: Video) -> list[tuple[Packet | None, float]]:
        """The next packet, or some of a file: each way to the thread takes a while.

        What goes wrong with a later one is told when it is its turn.
        """
        found: list[tuple[Packet | None, float]] = []
        while len(found) < (READ_AHEAD if self._is_paced else 1):
            begun_s = self._clock.wall_s()
            try:
                packet = video.read()
            except SkerryError as error:
                if not found:
                    raise
                self._broken = error
                break
            found.append((packet, self._clock.wall_s() - begun_s))
            if packet is None:
                break
        return found

    async def _decoded(self, video: Video, packets: Packets) -> Decoded | None:
        decode = partial(self._decode, video, packets)
        short_work, now_s = self._short_work, self._clock.wall_s()
        if len(packets) <= MOST_AT_ONCE and short_work.is_due(self.name, now_s=now_s):
            return short_work.at_once(self.name, decode, clock=self._clock)
        return await self._run(decode)

    def _decode(self, video: Video, packets: Packets) -> Decoded | None:
        """Decode packets in order, and give the last one's picture."""
        begun_s = self._clock.wall_s()
        decoded = None
        try:
            for packet in packets:
                decoded = video.decode(packet) or decoded
            self._bad = 0
        except DataError as error:
            self._bad += 1
            self._note(bad=self._health.bad + 1, reason=error.what)
            self._ingest.restart()
            if self._bad >= MOST_BAD:
                raise
        took_s = self._clock.wall_s() - begun_s
        self._ingest.spent(took_s, now_s=self._clock.wall_s())
        self._note(decode_s=self._health.decode_s + took_s)
        return decoded

    def _is_due(self, captured_s: float) -> bool:
        """Whether a picture is wanted, with so many a second."""
        # A tenth of a period of grace: a camera's own rate is never quite even.
        return captured_s - self._given_s >= 0.9 / self._settings.frames_per_s

    def _shot(self, decoded: Decoded, captured_s: float, size_bytes: int) -> Shot:
        if decoded.luma.shape != self._size:
            if self._size:
                rows, columns = decoded.luma.shape
                self._note(reason=f"its pictures changed to {columns} × {rows}")
            self._size = decoded.luma.shape
        age_s = self._clock.wall_s() - captured_s
        self._back_off.reset()
        shot = Shot(
            camera=self.name,
            number=self._health.shots,
            captured_s=captured_s,
            captured_at_ms=self._clock.unix_ms() - round(age_s * 1000),
            size_bytes=size_bytes,
            luma=decoded.luma,
            to_rgb=decoded.to_rgb,
            to_size=decoded.to_size,
        )
        self._note(state=CameraState.LIVE, shots=self._health.shots + 1)
        return shot

    def _note(self, **changes: object) -> None:
        self._health = replace(self._health, **changes)  # type: ignore[arg-type]

    async def _run(self, call: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)
