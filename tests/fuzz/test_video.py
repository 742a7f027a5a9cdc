"""Bytes that pretend to be video: an error of our tree, never a traceback or a hang."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skerry.core.errors import DataError, LinkError
from skerry.device._video import LARGEST_PIXELS, Video
from tests.videos import walk, write_video

MOST_PACKETS = 200


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Small files of the kinds that cameras and recorders write."""
    folder = tmp_path_factory.mktemp("videos")
    found = {}
    for suffix, codec in (
        ("mkv", "libx264"),
        ("mp4", "libx264"),
        ("avi", "mpeg4"),
        ("mjpeg", "mjpeg"),
        ("ts", "libx264"),
    ):
        path = write_video(folder / f"a.{suffix}", walk(8), codec=codec)
        found[suffix] = path.read_bytes()
    return found


def read_all(path: Path) -> int:
    """Read and decode all there is; how many pictures there were."""
    count = 0
    with (
        contextlib.suppress(DataError, LinkError),
        contextlib.closing(Video(str(path))) as video,
    ):
        for _ in range(MOST_PACKETS):
            packet = video.read()
            if packet is None:
                break
            with contextlib.suppress(DataError):
                decoded = video.decode(packet)
                if decoded is not None:
                    assert decoded.luma.size <= LARGEST_PIXELS
                    assert decoded.to_rgb().shape[:2] == decoded.luma.shape
                    count += 1
    return count


def test_the_files_are_read_where_nothing_is_changed(
    videos: dict[str, bytes], tmp_path: Path
) -> None:
    """So that the next tests test something."""
    for suffix, content in videos.items():
        path = tmp_path / f"a.{suffix}"
        path.write_bytes(content)
        assert read_all(path) >= 7, suffix


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    suffix=st.sampled_from(["mkv", "mp4", "avi", "mjpeg", "ts"]),
    changes=st.lists(
        st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=12)), max_size=8
    ),
    cut=st.floats(0, 1),
)
def test_changed_bytes_are_an_error_of_ours(
    videos: dict[str, bytes],
    tmp_path: Path,
    suffix: str,
    changes: list[tuple[float, bytes]],
    cut: float,
) -> None:
    """Some pictures may be left; nothing else is raised."""
    content = bytearray(videos[suffix])
    for place, piece in changes:
        start = int(place * (len(content) - 1))
        content[start : start + len(piece)] = piece
    path = tmp_path / f"b.{suffix}"
    path.write_bytes(bytes(content[: int(len(content) * max(cut, 0.05))]))
    read_all(path)


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(content=st.binary(max_size=2000))
def test_any_bytes_are_an_error_of_ours(tmp_path: Path, content: bytes) -> None:
    """Whatever FFmpeg takes them for."""
    path = tmp_path / "c.bin"
    path.write_bytes(content)
    read_all(path)
