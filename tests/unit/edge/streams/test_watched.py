from __future__ import annotations

from skerry.core.clock import FakeClock
from skerry.core.video import Picture
from skerry.edge.streams.settings import CameraEntry
from skerry.edge.streams.tracks import Seen
from skerry.edge.streams.watched import Found, Watched
from tests.videos import HandCamera, scene, shot_of, walk

EYES = {"people": "people", "faces": "faces"}
SLOW = Seen(region=(0.2, 0.2, 0.4, 0.8), score=0.9, label="person")
NEW = Seen(region=(0.7, 0.2, 0.8, 0.6), score=0.9, label="person")


class Film:
    """A camera whose looks are told by hand."""

    def __init__(self) -> None:
        self.watched = Watched(
            CameraEntry(name="a", url="a"),
            HandCamera("a", FakeClock()),
            sure=0.5,
            clip_s=0,
            bytes_per_day=0,
        )
        self.at_s = 0.0

    def take(self, picture: Picture, *seen: Seen) -> None:
        """One more picture, and what a look at it finds."""
        self.at_s += 0.2
        shot = shot_of(picture, at_s=self.at_s)
        self.watched.take(shot)
        found = Found(shot=shot, tracked=seen, people=seen, faces=())
        self.watched.apply(found)

    def rates(self, *, after_s: float = 0.0) -> tuple[float, float]:
        """Looks a second that people and faces are wanted at."""
        wants = self.watched.wants(EYES, self.at_s + after_s)  # type: ignore[arg-type]
        return wants["people"].rate, wants["faces"].rate


def test_who_is_new_is_looked_at_as_often_as_pictures_come() -> None:
    """Until it counts, whoever else is there; who is slow, half as often and less."""
    film = Film()
    pictures = walk(8, step_px=2)
    for _ in range(6):
        film.take(next(pictures), SLOW)
    assert film.rates() == (2.0, 1.5)
    film.take(next(pictures), SLOW, NEW)
    assert film.rates() == (5.0, 1.5)
    film.take(next(pictures), SLOW, NEW)
    assert film.rates() == (2.0, 1.5)


def test_faces_are_looked_for_less_where_nobody_is() -> None:
    """Something moves, and it is nobody."""
    film = Film()
    for picture in walk(4):
        film.take(picture)
    assert film.rates() == (3.0, 1.25)  # three looks in vain have halved 5


def test_a_scene_is_checked_soon_after_a_movement_and_then_less() -> None:
    """The movement may have brought something that stands still now."""
    film = Film()
    for picture in walk(3):
        film.take(picture)
    for _ in range(3):
        film.take(scene())
    rates = [film.rates(after_s=after_s)[0] for after_s in (2, 6, 12, 60)]
    assert rates == sorted(rates, reverse=True)
    assert 0.5 < rates[0] <= 1.0
    assert rates[-1] == 0.1
    assert film.rates(after_s=6)[1] == 0.1
