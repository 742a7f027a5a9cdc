"""Tracks: which box of this look is which box of the one before.

After Y. Zhang et al., "ByteTrack: Multi-Object Tracking by Associating Every Detection
Box", ECCV 2022: sure boxes are matched first, and unsure ones only go on with tracks
that would else be lost. Looks come at uneven times, so speeds are per second, and what
moved too far to overlap is matched by its distance in sizes of itself. Boxes are
fractions of the picture: a camera that changes its size keeps its tracks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from skerry.edge.streams.gate import Region
from skerry.tasks.boxes import Corners, overlaps

CONFIRMED_AFTER = 2
"""Looks that must have seen an object before it counts."""

STILL_SHARE = 0.1
"""An object stands still that moves by less than such a part of its size ..."""

STILL_S = 3.0
"""... for so long."""

WHOLE: Region = (0.0, 0.0, 1.0, 1.0)
"""All of a picture."""

_LEAST_OVERLAP = 0.15
_FARTHEST = 1.5
_NEWEST = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """An object in one picture.

    Attributes:
        region: Where, as fractions of the picture.
        score: How sure, 0–1.
        label: What it is.
    """

    region: Region
    score: float
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """One object over time.

    Attributes:
        id: Counts from 1 in its camera.
        label: What it is.
        region: Where it was last seen.
        velocity: How its middle moves, in widths and heights of the picture a second.
        hits: In how many looks it was seen.
        first_s: When it was first seen.
        last_s: When it was last seen.
        score: How sure it was then.
        anchor: Where it was when it last moved.
        anchor_s: When that was.
    """

    id: int
    label: str
    region: Region
    velocity: tuple[float, float] = (0.0, 0.0)
    hits: int = 1
    first_s: float
    last_s: float
    score: float
    anchor: Region
    anchor_s: float

    @property
    def is_confirmed(self) -> bool:
        """Whether it was seen often enough to count."""
        return self.hits >= CONFIRMED_AFTER

    @property
    def is_still(self) -> bool:
        """Whether it has not moved for a while."""
        return self.last_s - self.anchor_s >= STILL_S

    @property
    def speed(self) -> float:
        """Of its own sizes a second."""
        width, height = _size(self.region)
        return max(abs(self.velocity[0]) / width, abs(self.velocity[1]) / height)

    def expected(self, now_s: float) -> Region:
        """Where it should be now."""
        after_s = min(max(0.0, now_s - self.last_s), 2.0)
        right, down = (speed * after_s for speed in self.velocity)
        left, top, end, bottom = self.region
        return (left + right, top + down, end + right, bottom + down)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracked:
    """What one look changed.

    Attributes:
        tracks: All that are still there, those not yet confirmed among them.
        begun: Those that were confirmed by this look.
        ended: Confirmed ones that were not seen for too long.
        is_new: Whether something sure was seen that fits no track.
    """

    tracks: tuple[Track, ...]
    begun: tuple[Track, ...]
    ended: tuple[Track, ...]
    is_new: bool


class Tracker:
    """The tracks of one camera.

    Args:
        sure: The score from which a box begins a track.
        lost_s: How long an object may go unseen; missing one look is always allowed.
    """

    def __init__(self, *, sure: float = 0.5, lost_s: float = 2.0) -> None:
        self._sure = sure
        self._lost_s = lost_s
        self._tracks: list[Track] = []
        self._made = 0
        self._looked_s = float("-inf")

    @property
    def tracks(self) -> tuple[Track, ...]:
        """Those that are there, not yet confirmed ones among them."""
        return tuple(self._tracks)

    def update(
        self, seen: Sequence[Seen], now_s: float, *, within: Region = WHOLE
    ) -> Tracked:
        """Take what one look saw.

        Args:
            seen: All boxes, unsure ones too.
            now_s: When the picture was taken.
            within: The part of it that was looked at; who should be elsewhere may
                well be there.
        """
        sure = [one for one in seen if one.score >= self._sure]
        unsure = [one for one in seen if one.score < self._sure]
        pairs = self._match(self._tracks, sure, now_s)
        left = [
            track
            for track in self._tracks
            if track.is_confirmed and track.id not in pairs
        ]
        pairs |= self._match(left, unsure, now_s)
        used = {id(one) for one in pairs.values()}
        new = [self._begin(one, now_s) for one in sure if id(one) not in used]
        begun, kept, ended = [], [], []
        # Where looks are far apart, being missed in one of them says little.
        lost_s = max(self._lost_s, 1.5 * min(now_s - self._looked_s, 10.0))
        self._looked_s = now_s
        for track in self._tracks:
            if track.id in pairs:
                moved = _moved(track, pairs[track.id], now_s)
                begun += [moved] if moved.hits == CONFIRMED_AFTER else []
                kept.append(moved)
            elif not _holds(within, track.expected(now_s)) or (
                now_s - track.last_s <= (lost_s if track.is_confirmed else 0)
            ):
                kept.append(track)
            elif track.is_confirmed:
                ended.append(track)
        self._tracks = kept + new
        return Tracked(
            tracks=self.tracks, begun=tuple(begun), ended=tuple(ended), is_new=bool(new)
        )

    def _begin(self, seen: Seen, now_s: float) -> Track:
        self._made += 1
        return Track(
            id=self._made,
            label=seen.label,
            region=seen.region,
            first_s=now_s,
            last_s=now_s,
            score=seen.score,
            anchor=seen.region,
            anchor_s=now_s,
        )

    def _match(
        self, tracks: Sequence[Track], seen: Sequence[Seen], now_s: float
    ) -> dict[int, Seen]:
        """Pair tracks with boxes, the best pair first."""
        if not tracks or not seen:
            return {}
        expected = np.array([track.expected(now_s) for track in tracks])
        found = np.array([one.region for one in seen])
        likeness = _likeness(expected, found)
        for row, track in enumerate(tracks):
            for column, one in enumerate(seen):
                if track.label != one.label:
                    likeness[row, column] = -1
        pairs: dict[int, Seen] = {}
        while likeness.size and likeness.max() > 0:
            row, column = divmod(int(likeness.argmax()), len(seen))
            pairs[tracks[row].id] = seen[column]
            likeness[row, :] = -1
            likeness[:, column] = -1
        return pairs


def _likeness(expected: Corners, found: Corners) -> NDArray[np.float64]:
    """Overlap, above 1 where it is enough; else nearness, 0–1; -1 where too far."""
    overlap = overlaps(expected, found)
    middles = [(one[:, :2] + one[:, 2:]) / 2 for one in (expected, found)]
    sizes = [np.maximum(one[:, 2:] - one[:, :2], 1e-6) for one in (expected, found)]
    size = np.maximum(sizes[0][:, None], sizes[1][None])
    apart = np.abs(middles[0][:, None] - middles[1][None]) / size
    nearness = 1 - apart.max(axis=2) / _FARTHEST
    ratio = np.minimum(sizes[0][:, None], sizes[1][None]) / size
    is_alike = ratio.prod(axis=2) > 0.4
    near = np.where(is_alike & (nearness > 0), nearness, -1.0)
    return np.where(overlap >= _LEAST_OVERLAP, 1 + overlap, near)


def _moved(track: Track, seen: Seen, now_s: float) -> Track:
    elapsed_s = max(now_s - track.last_s, 1e-3)
    before, after = _middle(track.region), _middle(seen.region)
    speed = [
        (1 - _NEWEST) * old + _NEWEST * (new - was) / elapsed_s
        for old, new, was in zip(track.velocity, after, before, strict=True)
    ]
    moved = replace(
        track,
        region=seen.region,
        velocity=(speed[0], speed[1]),
        hits=track.hits + 1,
        last_s=now_s,
        score=seen.score,
    )
    width, height = _size(seen.region)
    anchor = _middle(track.anchor)
    is_still = (
        abs(after[0] - anchor[0]) <= STILL_SHARE * width
        and abs(after[1] - anchor[1]) <= STILL_SHARE * height
    )
    return moved if is_still else replace(moved, anchor=seen.region, anchor_s=now_s)


def _holds(around: Region, region: Region) -> bool:
    """Whether the middle of a region lies in another; of all pictures in all."""
    x, y = _middle(region)
    is_in = around[0] <= x <= around[2] and around[1] <= y <= around[3]
    return around == WHOLE or is_in


def _middle(region: Region) -> tuple[float, float]:
    left, top, right, bottom = region
    return (left + right) / 2, (top + bottom) / 2


def _size(region: Region) -> tuple[float, float]:
    left, top, right, bottom = region
    return max(right - left, 1e-6), max(bottom - top, 1e-6)
