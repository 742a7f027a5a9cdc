from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from skerry.edge.streams.gate import Gate
from tests.videos import luma_of, scene, walk

STREET = luma_of(scene(rows=360, columns=640))


def settled(picture: np.ndarray = STREET) -> Gate:
    """A gate that knows the scene."""
    gate = Gate()
    for _ in range(5):
        gate.look(picture)
    return gate


def test_nothing_moves_in_a_still_scene() -> None:
    """But the first picture is worth a look: nobody has seen it."""
    gate = Gate()
    assert gate.look(STREET).is_moving
    assert not any(gate.look(STREET).is_moving for _ in range(10))


def test_what_moves_is_seen_and_where() -> None:
    """Somebody of a twentieth of the picture's height or more."""
    gate = settled()
    shown = STREET.copy()
    shown[200:236, 320:340] = 250
    activity = gate.look(shown)
    assert activity.is_moving
    assert activity.region is not None
    left, top, right, bottom = activity.region
    assert left <= 320 / 640 < right <= 0.7
    assert top <= 200 / 360 < bottom <= 0.8


def test_noise_is_no_movement() -> None:
    """A sensor's noise is learnt."""
    rng = np.random.default_rng(1)
    gate = Gate()
    moved = [
        gate.look(
            np.clip(STREET + rng.normal(0, 5, STREET.shape), 0, 255).astype(np.uint8)
        ).is_moving
        for _ in range(60)
    ]
    assert sum(moved[5:]) <= 1


def test_a_change_of_light_is_no_movement() -> None:
    """Slow or sudden; somebody who walks meanwhile is seen all the same."""
    gate = settled()
    for level in range(40):
        brighter = np.clip(STREET.astype(int) + level // 2, 0, 255).astype(np.uint8)
        assert not gate.look(brighter).is_moving
    shown = brighter.copy()
    shown[200:260, 320:350] = 5
    assert gate.look(shown).is_moving


def test_what_stands_still_melts_into_the_scene() -> None:
    """Within some seconds at five pictures a second."""
    gate = settled()
    shown = STREET.copy()
    shown[200:260, 320:350] = 250
    moved = [gate.look(shown).is_moving for _ in range(60)]
    assert moved[0]
    assert not any(moved[50:])


def test_a_change_of_size_begins_anew() -> None:
    """It is worth a look, and then the new scene is known."""
    gate = settled()
    small = luma_of(scene())
    assert gate.look(small).is_moving
    assert not gate.look(small).is_moving


def test_a_walk_is_seen_in_each_picture() -> None:
    """From the first one on."""
    gate = settled(luma_of(scene()))
    assert all(gate.look(luma_of(picture)).is_moving for picture in walk(20))


@settings(deadline=None)
@given(
    arrays.arrays(
        np.uint8,
        st.tuples(st.integers(1, 40), st.integers(1, 400)),
        elements=st.just(7),
    )
)
def test_no_size_is_too_odd(picture: np.ndarray) -> None:
    """One that is too small to be judged is worth a look."""
    gate = Gate()
    gate.look(picture)
    assert 0 <= gate.look(picture).share <= 1


def test_where_somebody_was_nothing_moves() -> None:
    """They stood there until they had melted in; then the scene is as before."""
    gate = settled()
    shown = STREET.copy()
    shown[200:260, 320:350] = 250
    for _ in range(40):
        gate.look(shown)
    moved = [gate.look(STREET).is_moving for _ in range(10)]
    assert moved[0]
    assert not any(moved[1:])
    assert gate.look(shown).is_moving
