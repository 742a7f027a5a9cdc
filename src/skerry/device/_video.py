"""The only door to PyAV: packets, decoded pictures, clips.

What is opened here comes from outside. The size of a picture is bounded before it is
decoded, one thread decodes one stream, and each failure is an error of our tree.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from skerry.core.errors import DataError, LinkError, MissingExtraError, StateError
from skerry.core.video import Picture

if TYPE_CHECKING:
    from av.container.input import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

LARGEST_PIXELS = 1 << 24
"""Most pixels of a picture: 4096 × 4096."""

LARGEST_PACKET_BYTES = 1 << 25

_PLANAR = frozenset(
    {"gray", "nv12", "nv21"}
    | {f"{kind}{chroma}p" for kind in ("yuv", "yuvj") for chroma in (420, 422, 444)}
)
"""Formats whose first plane is one byte of brightness a pixel."""

_LIVE_OPTIONS = {
    "rtsp_transport": "tcp",
    "fflags": "nobuffer",
    # What the stream is must be known soon: fifty of them are opened one by one.
    "analyzeduration": "1000000",
    "probesize": "500000",
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Packet:
    """One coded picture.

    Attributes:
        pts_s: When it is to be shown by the stream's own clock; None: it does not say.
        is_key: Whether it stands alone.
        size_bytes: Its size.
        coded: What the decoder takes.
    """

    pts_s: float | None
    is_key: bool
    size_bytes: int
    coded: Any


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Decoded:
    """One picture, decoded and not yet converted.

    Attributes:
        luma: Brightness, rows × columns.
        to_rgb: Converts it.
        to_size: Converts it to so many rows and columns.
    """

    luma: NDArray[np.uint8]
    to_rgb: Callable[[], Picture]
    to_size: Callable[[int, int], Picture]


class Video:
    """An opened stream of coded pictures; one thread at a time uses it.

    Args:
        url: A file, or what FFmpeg opens: `rtsp://…`, `http://…`.
        container: FFmpeg's name of the format where it is not to be guessed.
        options: More of FFmpeg's options.
        timeout_s: How long to wait for the other side to open, and for a packet.
        wanted_rows: Of several streams in it, the smallest that has so many rows.

    Raises:
        LinkError: It cannot be reached.
        DataError: There is no video in it that we decode.
        MissingExtraError: PyAV is not installed.
    """

    def __init__(
        self,
        url: str,
        *,
        container: str = "",
        options: Mapping[str, str] | None = None,
        timeout_s: float = 10.0,
        wanted_rows: int = 360,
    ) -> None:
        library = _library()
        self._url = hide_secret(url)
        is_live = "://" in url
        with self._errors():
            self._container: InputContainer = library.open(
                url,
                format=container or None,
                options={**(_LIVE_OPTIONS if is_live else {}), **(options or {})},
                timeout=timeout_s,
            )
        try:
            self._stream = self._choose(wanted_rows)
            self._stream.codec_context.thread_type = "NONE"
            self._stream.codec_context.thread_count = 1
            # FFmpeg refuses a larger one before it has memory for it.
            self._stream.codec_context.options = {"max_pixels": str(LARGEST_PIXELS)}
            with self._errors():
                self._packets = self._container.demux(self._stream)
        except BaseException:
            self.close()
            raise

    @property
    def frames_per_s(self) -> float | None:
        """As many as it says it has, or None."""
        rate = self._stream.average_rate or self._stream.guessed_rate
        return float(rate) if rate and 0 < rate <= 1000 else None

    @property
    def is_intra_only(self) -> bool:
        """Whether no picture needs another one to be decoded: MJPEG, raw pictures."""
        return bool(self._stream.codec_context.codec.intra_only)

    def read(self) -> Packet | None:
        """Wait for the next coded picture; None at the end.

        Raises:
            LinkError: None came in time, or the connection broke.
            DataError: What came is no packet.
        """
        with self._errors():
            for packet in self._packets:
                if packet.size == 0:
                    continue  # the end, or a packet that only tells of a change
                if packet.size > LARGEST_PACKET_BYTES:
                    raise DataError(
                        f"a packet of {self._url} has {packet.size} bytes, expected "
                        f"at most {LARGEST_PACKET_BYTES}",
                        hint="Lower the camera's bit rate.",
                    )
                is_timed = packet.pts is not None and packet.time_base is not None
                return Packet(
                    pts_s=float(packet.pts * packet.time_base) if is_timed else None,
                    is_key=packet.is_keyframe,
                    size_bytes=packet.size,
                    coded=packet,
                )
        return None

    def decode(self, packet: Packet) -> Decoded | None:
        """Decode a picture; None where it gives none yet.

        Raises:
            DataError: It is damaged, or too large.
        """
        try:
            with self._errors():
                frames = self._stream.codec_context.decode(packet.coded)
        except LinkError as error:  # what has come has no link
            raise DataError(
                f"a picture of {self._url} cannot be decoded: it is damaged, or has "
                f"more than {LARGEST_PIXELS} pixels",
                hint="Use the camera's sub-stream, if it has large pictures.",
            ) from error
        return self._view(frames[-1]) if frames else None

    def close(self) -> None:
        """Close it."""
        with suppress(_library().FFmpegError):
            self._container.close()

    def _choose(self, wanted_rows: int) -> VideoStream:
        streams = [one for one in self._container.streams.video if one.width > 0]
        if not streams:
            raise DataError(
                f"there is no video in {self._url}", hint="Give a camera's stream."
            )
        sizes = [(one.height, one.width) for one in streams]
        return streams[choose_stream(sizes, wanted_rows)]

    def _view(self, frame: VideoFrame) -> Decoded:
        rows, columns = frame.height, frame.width
        if not 0 < rows * columns <= LARGEST_PIXELS:
            raise DataError(
                f"a picture of {self._url} has {columns} × {rows} pixels, expected "
                f"at most {LARGEST_PIXELS}",
                hint="Use the camera's sub-stream.",
            )

        url, one_at_a_time = self._url, threading.Lock()

        # Not of `self`: who holds a picture would hold its decoder, too, and the next
        # connection of a camera is opened before the last picture is let go of.
        def to_size(rows: int, columns: int) -> Picture:
            # FFmpeg writes to the frame meanwhile; threads of its own cost it more
            # than a small picture takes.
            with video_errors(url), one_at_a_time:
                scaled = frame.reformat(
                    columns, rows, "rgb24", interpolation="FAST_BILINEAR", threads=1
                )
                return np.asarray(scaled.to_ndarray(), dtype=np.uint8)

        shown = frame
        if frame.format.name not in _PLANAR:
            shown = frame.reformat(format="gray")
        plane = shown.planes[0]
        lines = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
        return Decoded(
            luma=lines[:rows, :columns],
            to_rgb=lambda: to_size(rows, columns),
            to_size=to_size,
        )

    @contextmanager
    def _errors(self) -> Iterator[None]:
        with video_errors(self._url):
            yield


@contextmanager
def video_errors(name: str) -> Iterator[None]:
    """Turn PyAV's failures into errors of our tree.

    Raises:
        LinkError: The other side cannot be reached, or did not answer in time.
        DataError: What is there is no video that we decode.
    """
    library = _library()
    try:
        yield
    except library.InvalidDataError as error:
        raise DataError(
            f"{name} is no video that can be decoded: {_why(error)}",
            hint="Give H.264, H.265, MJPEG or MPEG-4 video.",
        ) from error
    except (library.FFmpegError, OSError) as error:
        raise LinkError(
            f"cannot read {name}: {_why(error)}",
            hint="Is the camera on, and are its address and password right?",
        ) from error
    # PyAV checks its arguments and FFmpeg's answers in ways of its own.
    except (ValueError, RuntimeError, NotImplementedError) as error:
        raise DataError(
            f"{name} cannot be decoded: {_why(error)}",
            hint="Give H.264, H.265, MJPEG or MPEG-4 video.",
        ) from error


def choose_stream(sizes: Sequence[tuple[int, int]], wanted_rows: int) -> int:
    """Choose the smallest stream that is large enough, else the largest.

    Args:
        sizes: Rows and columns of each; at least one.
        wanted_rows: How many rows are enough.

    Example:
        >>> choose_stream([(1080, 1920), (360, 640), (180, 320)], 360)
        1
    """
    enough = [place for place, (rows, _) in enumerate(sizes) if rows >= wanted_rows]
    if enough:
        return min(enough, key=lambda place: sizes[place][0] * sizes[place][1])
    return max(range(len(sizes)), key=lambda place: sizes[place][0] * sizes[place][1])


def hide_secret(url: str) -> str:
    """A URL without the user and the password in it, for messages.

    Example:
        >>> hide_secret("rtsp://admin:secret@10.0.0.9/live")
        'rtsp://10.0.0.9/live'
    """
    scheme, sign, rest = url.partition("://")
    if not sign:
        return url
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path.partition('?')[0]}"


def write_clip(
    pictures: Sequence[Picture], *, frames_per_s: float, quality: int = 28
) -> bytes:
    """Encode pictures of one size as an MP4 file with H.264.

    Args:
        pictures: At least one; odd rows and columns are cut to even ones.
        frames_per_s: How fast they are shown.
        quality: x264's constant rate factor: lower is better and larger.

    Raises:
        MissingExtraError: PyAV is not installed.
        StateError: It was built without an encoder.
    """
    library = _library()
    rows, columns = (side & ~1 for side in pictures[0].shape[:2])
    stream = io.BytesIO()
    try:
        with library.open(stream, "w", format="mp4") as out:
            video = out.add_stream("libx264", rate=max(1, round(frames_per_s)))
            video.width, video.height, video.pix_fmt = columns, rows, "yuv420p"
            video.options = {"preset": "veryfast", "crf": str(quality)}
            video.codec_context.thread_count = 1
            for picture in pictures:
                cut = np.ascontiguousarray(picture[:rows, :columns])
                frame = library.VideoFrame.from_ndarray(cut, format="rgb24")
                out.mux(video.encode(frame))
            out.mux(video.encode())
    except (library.FFmpegError, ValueError, OSError) as error:
        raise StateError(
            f"no clip can be encoded: {_why(error)}",
            hint="Reinstall PyAV from its wheel: it brings x264.",
        ) from error
    return stream.getvalue()


def check_installed() -> None:
    """See to it that video can be decoded here at all.

    Raises:
        MissingExtraError: PyAV is not installed.
    """
    _library()


def is_file(url: str) -> bool:
    """Whether it names a file, which is played at the pace that it was recorded at.

    A device may be plugged in later, and is none before that either.
    """
    return not is_device(url) and "://" not in url and not Path(url).is_char_device()


def is_device(url: str) -> bool:
    """Whether it names a device of this machine."""
    return url.startswith("/dev/")


def _why(error: BaseException) -> str:
    # PyAV adds the URL, which may hold a password, to what it says.
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())[:200]


def _library() -> Any:
    try:
        import av
    except ImportError as error:
        raise MissingExtraError("av", extra="streams") from error
    return av
