from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from skerry.edge.streams.tracks import STILL_S, Seen, Track, Tracker


def at(
    left: float, *, top: float = 0.4, score: float = 0.9, label: str = "person"
) -> Seen:
    """Somebody of a tenth of the picture's width."""
    return Seen(region=(left, top, left + 0.1, top + 0.3), score=score, label=label)


def confirmed(tracker: Tracker) -> list[Track]:
    """The tracks that count."""
    return [track for track in tracker.tracks if track.is_confirmed]


def test_an_object_counts_when_it_was_seen_twice() -> None:
    """A single false box is no event."""
    tracker = Tracker()
    assert tracker.update([at(0.1)], 0.0).begun == ()
    found = tracker.update([at(0.12)], 0.2)
    assert [track.id for track in found.begun] == [1]
    assert tracker.update([at(0.14)], 0.4).begun == ()
    tracker.update([at(0.8), at(0.16)], 0.6)
    tracker.update([at(0.18)], 0.8)
    assert [track.id for track in tracker.tracks] == [1]


def test_two_who_pass_each_other_keep_their_tracks() -> None:
    """Their speeds tell them apart."""
    tracker = Tracker()
    for step in range(20):
        tracker.update(
            [at(0.05 + 0.04 * step), at(0.85 - 0.04 * step, top=0.5)], 0.2 * step
        )
    assert sorted(round(track.region[0], 2) for track in confirmed(tracker)) == [
        0.09,
        0.81,
    ]
    assert {track.id: round(track.region[0], 2) for track in tracker.tracks} == {
        1: 0.81,
        2: 0.09,
    }


def test_a_fast_one_is_followed_where_looks_are_rare() -> None:
    """Boxes that do not overlap are matched by their distance."""
    tracker = Tracker()
    for step in range(6):
        tracker.update([at(0.02 + 0.11 * step)], 1.0 * step)
    assert [track.id for track in tracker.tracks] == [1]
    assert confirmed(tracker)[0].velocity[0] > 0.09


def test_an_unsure_box_goes_on_with_a_track_and_begins_none() -> None:
    """As ByteTrack has it."""
    tracker = Tracker()
    tracker.update([at(0.1)], 0.0)
    tracker.update([at(0.1)], 0.2)
    for step in range(3, 40):
        tracker.update([at(0.1, score=0.3), at(0.6, score=0.3)], 0.2 * step)
    assert [track.id for track in tracker.tracks] == [1]


def test_who_is_not_seen_for_long_is_gone() -> None:
    """Told once; where looks are rare, it takes more than one without it."""
    tracker = Tracker(lost_s=2.0)
    tracker.update([at(0.1)], 0.0)
    tracker.update([at(0.1)], 0.2)
    ended = [tracker.update([], 0.2 * step).ended for step in range(2, 20)]
    assert [len(found) for found in ended].count(1) == 1
    assert tracker.tracks == ()
    tracker.update([at(0.1)], 10.0)
    tracker.update([at(0.1)], 15.0)
    assert tracker.update([], 20.0).ended == ()
    assert len(tracker.update([], 40.0).ended) == 1


def test_other_things_are_no_match() -> None:
    """A dog does not become its owner."""
    tracker = Tracker()
    tracker.update([at(0.1)], 0.0)
    tracker.update([at(0.1)], 0.2)
    assert tracker.update([at(0.1, label="dog")], 0.4).is_new


def test_who_stands_still_is_known_to() -> None:
    """A jittering box does not move."""
    tracker = Tracker()
    for step in range(40):
        tracker.update([at(0.1 + 0.004 * (step % 2))], 0.2 * step)
    (track,) = tracker.tracks
    assert track.is_still
    assert track.last_s - track.anchor_s >= STILL_S
    tracker.update([at(0.15)], 8.0)
    assert not tracker.tracks[0].is_still


boxes = st.tuples(st.floats(0, 0.9), st.floats(0, 0.9), st.floats(0.1, 1)).map(
    lambda one: at(one[0], top=one[1] * 0.7, score=one[2])
)


@given(
    st.lists(st.tuples(st.lists(boxes, max_size=6), st.floats(0.01, 5)), max_size=15)
)
def test_each_box_belongs_to_one_track_and_each_track_has_one_end(
    looks: list[tuple[list[Seen], float]],
) -> None:
    """Whatever is seen."""
    tracker, now_s = Tracker(), 0.0
    begun: set[int] = set()
    ended: set[int] = set()
    for seen, elapsed_s in looks:
        now_s += elapsed_s
        found = tracker.update(seen, now_s)
        ids = [track.id for track in found.tracks]
        assert len(set(ids)) == len(ids)
        fresh = [track for track in found.tracks if track.last_s == now_s]
        assert len(fresh) <= len(seen)
        for track in found.begun:
            assert track.id not in begun
            begun.add(track.id)
        for track in found.ended:
            assert track.id in begun - ended
            assert track.id not in ids
            ended.add(track.id)
