from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.core.video import Picture
from skerry.device._video import write_clip
from skerry.edge.streams.clips import ClipFolder
from skerry.edge.streams.gate import Region
from skerry.edge.streams.leaving import (
    DAY_S,
    LARGEST_THUMBNAIL_BYTES,
    Clip,
    Recent,
    UploadBudget,
    keep,
    to_clip,
    to_jpeg,
    to_region_jpeg,
    to_thumbnail,
)
from skerry.edge.streams.privacy import Veil, Veiled
from skerry.tasks._image import decode_picture
from tests.videos import scene, shot_of, walk


def veiled(picture: Picture, at_s: float = 0.0) -> Veiled:
    """A picture without anybody in it, as it may leave."""
    found = Veil().take(shot_of(picture, at_s=at_s), faces=[], people=[])
    assert found is not None
    return found.cover()


def noisy(rows: int = 360, columns: int = 640) -> Picture:
    """What is worst for JPEG."""
    rng = np.random.default_rng(3)
    gray = rng.integers(0, 255, (rows, columns, 1))
    return np.repeat(gray, 3, axis=2).astype(np.uint8)


def test_detail_is_kept_where_it_is_of_interest() -> None:
    """And the rest costs little."""
    picture = veiled(noisy())
    whole = to_jpeg(picture)
    part = to_region_jpeg(picture, [(0.4, 0.4, 0.5, 0.6)])
    assert len(part) < len(whole) / 5
    shown = decode_picture(part, name="a").astype(int)
    error = np.abs(shown - picture.pixels).mean(axis=2)
    assert error[150:210, 260:315].mean() < 0.7 * error[:100, :200].mean()


@pytest.mark.parametrize("size", [(360, 640), (1080, 1920), (40, 30)])
def test_a_thumbnail_fits_into_its_event(size: tuple[int, int]) -> None:
    """Whatever the picture, and it is a picture."""
    content = to_thumbnail(veiled(noisy(*size)), [(0.0, 0.0, 1.0, 1.0)])
    assert 0 < len(content) <= LARGEST_THUMBNAIL_BYTES
    assert decode_picture(content, name="a").shape[1] <= 320


def test_a_clip_is_made_of_what_was_kept() -> None:
    """As long as it took, at the rate it was looked at."""
    kept = [keep(veiled(one, 0.4 * n), []) for n, one in enumerate(walk(5))]
    clip = to_clip(kept, lambda pictures, rate: write_clip(pictures, frames_per_s=rate))
    assert clip.pictures == 5
    assert clip.seconds == pytest.approx(1.6)
    assert clip.content[4:8] == b"ftyp"


def test_pictures_of_another_size_are_left_out_of_a_clip() -> None:
    """The camera changed it meanwhile."""
    sizes = [(90, 160), (90, 160), (60, 80)]
    kept = [
        keep(veiled(scene(rows=r, columns=c), n), []) for n, (r, c) in enumerate(sizes)
    ]
    assert to_clip(kept, lambda pictures, _: bytes(len(pictures))).content == b"\x00"


def test_recent_pictures_are_kept_for_a_while_and_not_too_many() -> None:
    """In seconds, not in pictures."""
    recent = Recent(keep_s=2.0, least_gap_s=0.3)
    for number in range(50):
        at_s = number * 0.1
        if recent.wants(at_s):
            recent.add(keep(veiled(scene(rows=20, columns=20), at_s), []))
    times = [one.captured_s for one in recent.since(0)]
    assert times[-1] - times[0] <= 2.0
    assert len(times) <= 7
    assert [one.captured_s for one in recent.since(4.0)] == times[
        -len([t for t in times if t >= 4]) :
    ]
    assert not Recent(keep_s=0).wants(1.0)


def test_a_clip_is_coarse_but_for_what_is_of_interest() -> None:
    """Its bytes go where somebody is."""
    picture = veiled(noisy())

    def clip_of(regions: list[Region]) -> Clip:
        kept = [replace(keep(picture, regions), captured_s=0.4 * n) for n in range(4)]
        return to_clip(kept, lambda some, rate: write_clip(some, frames_per_s=rate))

    whole, part = clip_of([(0, 0, 1, 1)]), clip_of([(0.4, 0.4, 0.5, 0.6)])
    assert part.pictures == whole.pictures == 4
    assert len(part.content) < len(whole.content) / 5


def test_a_budget_is_filled_evenly() -> None:
    """An hour's worth may be saved."""
    budget = UploadBudget(bytes_per_day=24_000)
    assert budget.take(1000, now_s=0)
    assert not budget.take(1, now_s=0)
    assert budget.take(479, now_s=1800)
    assert not budget.take(1, now_s=1800)
    assert budget.take(1000, now_s=DAY_S)
    assert not budget.take(1000, now_s=DAY_S)


@given(
    steps=st.lists(
        st.tuples(st.floats(0, 9000), st.integers(1, 3000)), min_size=1, max_size=60
    )
)
def test_no_day_takes_more_than_the_budget(steps: list[tuple[float, int]]) -> None:
    """No 24 hours at all, whenever they begin and however it is asked."""
    budget, now_s = UploadBudget(bytes_per_day=24_000), 0.0
    sent: list[tuple[float, int]] = []
    for wait_s, size_bytes in steps:
        now_s += wait_s
        if budget.take(size_bytes, now_s=now_s):
            sent.append((now_s, size_bytes))
    for begun_s, _ in sent:
        day = [size for at_s, size in sent if begun_s <= at_s < begun_s + DAY_S]
        assert sum(day) <= 24_000


def test_the_oldest_clips_go_first(tmp_path: Path) -> None:
    """And never the one that was just made."""
    folder = ClipFolder(tmp_path / "clips", limit_bytes=250)
    paths = [
        folder.put(
            Clip(content=bytes([n]) * 100, sha256=f"{n}" * 64, pictures=1, seconds=0)
        )
        for n in range(4)
    ]
    assert [path.exists() for path in paths] == [False, False, True, True]
