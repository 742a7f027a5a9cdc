"""One watched camera: what is known of it, and what it wants to be looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from skerry.core.seams import Camera
from skerry.core.video import Attention, Shot
from skerry.edge.streams.eyes import Finds
from skerry.edge.streams.figures import CameraCounts
from skerry.edge.streams.gate import Activity, Gate, Region
from skerry.edge.streams.leaving import Recent, UploadBudget
from skerry.edge.streams.mosaics import grown
from skerry.edge.streams.privacy import Coverable, Veil
from skerry.edge.streams.scheduler import Want
from skerry.edge.streams.settings import CameraEntry
from skerry.edge.streams.tracks import WHOLE, Seen, Tracker
from skerry.edge.streams.zones import Happening, Rules

LOOKS_PER_SIZE = 4.0
"""An object is to be looked at so often while it moves by its own size."""

CALM_S = 1.5
"""For how long after the last movement a camera counts as moving."""

NOW_S = 0.5
"""What moved in a picture that is no older moves now."""

CALM_RATE = 2.0
"""Most looks a second where something moved a moment ago and no longer does."""

KNOWN_RATE = 2.0
"""Least looks a second where something moves, however slowly or seldom somebody."""

BACK_OFF = 0.35
"""A scene is checked after such a part of the time since something moved in it."""

EMPTY_LOOKS = 3
"""So many looks in a row that find nothing halve the rate of the next ones."""

FACES_PER_S = 1.5
"""Faces are looked for at most so often: pictures leave no more often than that."""

FACES_PER_S_ALONE = 1.25
"""Where nobody is known, at most so often."""

WHOLE_EACH_S = 1.0
"""All of a picture on which something moves is looked at so often."""

STILL_CHECK_S = 2.0
"""How often objects that stand still are looked at."""

SOONEST_CHECK_S = 1.0
"""After a movement, the first check comes so soon."""

_STEPS = (1.0, 2.0, 3.0, 4.0, 5.0, 7.5, 10.0, 15.0)
"""Looks a second while something moves."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Found:
    """What a look at one picture found.

    Attributes:
        shot: The picture.
        region: The part of it that was looked at.
        tracked: People and objects; None where no model looked for them.
        people: The people among them, unsure ones too; None likewise.
        faces: Faces; None where no model looked for them.
    """

    shot: Shot
    region: Region = WHOLE
    tracked: Sequence[Seen] | None
    people: Sequence[Seen] | None
    faces: Sequence[Seen] | None


class Watched:
    """What is known of one camera; it belongs to the event loop's thread.

    Args:
        entry: What it is.
        camera: Gives its pictures.
        sure: The score from which a box begins a track.
        clip_s: How long before and after an event a clip goes.
        bytes_per_day: Most bytes of pictures that may leave in a day.

    Attributes:
        entry: What it is.
        camera: Gives its pictures.
        counts: What is counted of it.
        veil: Knows its faces.
        rules: Its zones and lines.
        tracker: Its tracks.
        shown: Its newest one that may leave.
        recent: The last of those, covered, for clips.
        upload: What its pictures may still cost.
        failing: By model, why its last look failed, and under no name why the camera
            itself did; what works again is taken away.
        reason: What else went wrong last; empty where nothing did.
    """

    def __init__(
        self,
        entry: CameraEntry,
        camera: Camera,
        *,
        sure: float,
        clip_s: float,
        bytes_per_day: float,
    ) -> None:
        self.entry = entry
        self.camera = camera
        self.counts = CameraCounts()
        self.veil = Veil()
        self.rules = Rules(entry.zones, entry.lines)
        self.tracker = Tracker(sure=sure)
        self.shown: Coverable | None = None
        self.recent = Recent(keep_s=2 * clip_s)
        self.upload = UploadBudget(bytes_per_day=bytes_per_day)
        self.failing: dict[str, str] = {}
        self.reason = ""
        self._gate = Gate()
        self._moved_s = float("-inf")
        self._whole_s = float("-inf")
        self._moving: Region | None = None
        self._empty = 0

    @property
    def name(self) -> str:
        """The camera's name."""
        return self.entry.name

    def is_moving(self, now_s: float) -> bool:
        """Whether something moved a moment ago."""
        return now_s - self._moved_s <= CALM_S

    def take(self, shot: Shot) -> Activity:
        """Take its newest picture through the gate."""
        activity = self._gate.look(shot.luma)
        self._moving = activity.region
        self.counts.pictures += 1
        self.counts.pictures_rate.add(shot.captured_s)
        if activity.is_moving:
            if not self.is_moving(shot.captured_s):
                self._empty = 0
            self.counts.moving += 1
            self._moved_s = shot.captured_s
        self.camera.attend(
            Attention.FULL if self.is_moving(shot.captured_s) else Attention.IDLE
        )
        return activity

    def part(self, now_s: float) -> Region | None:
        """The part of its newest picture in which something happens.

        Returns:
            It, or None where all of the picture is to be looked at: where nobody is
            known yet, and once in `WHOLE_EACH_S`.
        """
        tracks = [
            track.expected(now_s)
            for track in self.tracker.tracks
            if track.is_confirmed and not track.is_still
        ]
        if not tracks or now_s - self._whole_s >= WHOLE_EACH_S:
            return None
        return grown([*tracks, self._moving] if self._moving else tracks)

    def wants(self, eyes: Mapping[str, Finds], now_s: float) -> Mapping[str, Want]:
        """How often each model is to look, as its scene is.

        Where something begins to move, or somebody new is there, as often as pictures
        come; then by how fast the fastest object is. Where look after look finds
        nothing in what moves (trees, traffic), half as often, and again, down to
        `KNOWN_RATE`. When all is still a scene is checked soon, and then less and less.
        Faces, which are of interest to who looks at pictures, are looked for less.
        """
        entry = self.entry
        if not self.is_moving(now_s):
            since_s = BACK_OFF * (now_s - self._moved_s)
            check_s = min(entry.check_s, max(SOONEST_CHECK_S, since_s))
            if self.tracker.tracks:
                check_s = min(check_s, STILL_CHECK_S)
            checks = {"faces": entry.check_s}
            return {
                model: Want(rate=1 / checks.get(finds, check_s))
                for model, finds in eyes.items()
            }
        rate = self._rate(now_s)
        faces = FACES_PER_S if self.tracker.tracks else FACES_PER_S_ALONE
        most = {"faces": max(faces, entry.least_rate)}
        return {
            model: _want(min(rate, most.get(finds, rate)), entry.least_rate)
            for model, finds in eyes.items()
        }

    def _rate(self, now_s: float) -> float:
        """Looks a second while something moves."""
        entry = self.entry
        tracks = [track for track in self.tracker.tracks if not track.is_still]
        rate = entry.frames_per_s / 2 ** (self._empty // EMPTY_LOOKS)
        if any(not track.is_confirmed for track in tracks):
            rate = entry.frames_per_s
        elif tracks:
            rate = LOOKS_PER_SIZE * max(track.speed for track in tracks)
        rate = max(KNOWN_RATE, rate)
        if now_s - self._moved_s > NOW_S:
            rate = min(rate, CALM_RATE)
        # A few steps, so that not every look has all rates shared out anew.
        rate = next((step for step in _STEPS if step >= rate), _STEPS[-1])
        return min(entry.frames_per_s, max(entry.least_rate, rate))

    def apply(self, found: Found) -> list[Happening]:
        """Take what a look found, and tell what happened."""
        now_s = found.shot.captured_s
        is_check = not self.is_moving(now_s)
        self.counts.checks += is_check
        if found.tracked is None:
            return []
        if found.region == WHOLE:
            self._whole_s = now_s
        tracked = self.tracker.update(found.tracked, now_s, within=found.region)
        self._empty = 0 if tracked.tracks else min(self._empty + 1, 30)
        if tracked.is_new and is_check:
            self.counts.missed += 1
            self._moved_s = now_s  # watched closely, as though it had been seen
            self.camera.attend(Attention.FULL)
        return self.rules.update(tracked, now_s)


def _want(rate: float, least: float) -> Want:
    return Want(rate=rate, least=min(least, rate))
