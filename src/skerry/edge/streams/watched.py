"""One watched camera: what is known of it, and what it wants to be looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from skerry.core.seams import Camera
from skerry.core.video import Attention, Shot
from skerry.edge.streams.eyes import Finds
from skerry.edge.streams.figures import CameraCounts
from skerry.edge.streams.gate import Activity, Gate
from skerry.edge.streams.leaving import Recent, UploadBudget
from skerry.edge.streams.privacy import Veil, Veiled
from skerry.edge.streams.scheduler import Want
from skerry.edge.streams.settings import CameraEntry
from skerry.edge.streams.tracks import Seen, Tracker
from skerry.edge.streams.zones import Happening, Rules

LOOKS_PER_SIZE = 3.0
"""An object is to be looked at so often while it moves by its own size."""

CALM_S = 1.5
"""For how long after the last movement a camera counts as moving."""

NOW_S = 0.3
"""What moved in a picture that is no older moves now."""

CALM_RATE = 2.0
"""Most looks a second where something moved a moment ago and no longer does."""

EMPTY_LOOKS = 3
"""So many looks in a row that find nothing halve the rate of the next ones."""

FACES_PER_S = 2.0
"""Faces are looked for at most so often: pictures leave no more often than that."""

STILL_CHECK_S = 2.0
"""How often objects that stand still are looked at."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Found:
    """What a look at one picture found.

    Attributes:
        shot: The picture.
        tracked: People and objects; None where no model looked for them.
        people: The people among them, unsure ones too; None likewise.
        faces: Faces; None where no model looked for them.
    """

    shot: Shot
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
        veil: Covers its faces.
        rules: Its zones and lines.
        tracker: Its tracks.
        shot: Its newest picture.
        shown: Its newest veiled one.
        recent: The last of those, for clips.
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
        self.shot: Shot | None = None
        self.shown: Veiled | None = None
        self.recent = Recent(keep_s=2 * clip_s)
        self.upload = UploadBudget(bytes_per_day=bytes_per_day)
        self.failing: dict[str, str] = {}
        self.reason = ""
        self._gate = Gate()
        self._moved_s = float("-inf")
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
        self.shot = shot
        activity = self._gate.look(shot.luma)
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

    def wants(self, eyes: Mapping[str, Finds], now_s: float) -> Mapping[str, Want]:
        """How often each model is to look, as its scene is.

        Where something begins to move, as often as pictures come; then by how fast the
        fastest object is. Where look after look finds nothing in what moves (trees,
        traffic), half as often, and again, down to the least rate.
        """
        entry = self.entry
        tracks = [track for track in self.tracker.tracks if not track.is_still]
        if self.is_moving(now_s):
            known = [track.speed for track in tracks if track.is_confirmed]
            rate = entry.frames_per_s / 2 ** (self._empty // EMPTY_LOOKS)
            if known:
                rate = LOOKS_PER_SIZE * max(known)
            if now_s - self._moved_s > NOW_S:
                rate = min(rate, CALM_RATE)
            # A few steps, so that not every look has all rates shared out anew.
            steps = [1.0, 2.0, 3.0, 4.0, 5.0, 7.5, 10.0, 15.0]
            rate = next((step for step in steps if step >= rate), steps[-1])
            rate = min(entry.frames_per_s, max(entry.least_rate, rate))
            most = {"faces": max(FACES_PER_S, entry.least_rate)}
            return {
                model: _want(min(rate, most.get(finds, rate)), entry.least_rate)
                for model, finds in eyes.items()
            }
        check_s = entry.check_s
        if self.tracker.tracks:
            check_s = min(check_s, STILL_CHECK_S)
        return dict.fromkeys(eyes, Want(rate=1 / check_s))

    def apply(self, found: Found) -> list[Happening]:
        """Take what a look found, and tell what happened."""
        now_s = found.shot.captured_s
        is_check = not self.is_moving(now_s)
        self.counts.checks += is_check
        if found.tracked is None:
            return []
        tracked = self.tracker.update(found.tracked, now_s)
        self._empty = 0 if tracked.tracks else min(self._empty + 1, 30)
        if tracked.is_new and is_check:
            self.counts.missed += 1
            self._moved_s = now_s  # watched closely, as though it had been seen
            self.camera.attend(Attention.FULL)
        return self.rules.update(tracked, now_s)


def _want(rate: float, least: float) -> Want:
    return Want(rate=rate, least=min(least, rate))
