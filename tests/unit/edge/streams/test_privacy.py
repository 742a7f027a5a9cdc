from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import skerry
from skerry.core.video import Picture
from skerry.edge.streams.privacy import BLOCKS, HOLD_S, Veil, Veiled, pixelate
from skerry.edge.streams.tracks import Seen
from tests.videos import scene, shot_of

STREET = scene(rows=360, columns=640)
FACE = (0.45, 0.2, 0.5, 0.29)
PERSON = (0.42, 0.18, 0.53, 0.9)


def seen(region: tuple[float, float, float, float], score: float = 0.9) -> Seen:
    """Something that a model found."""
    return Seen(region=region, score=score, label="it")


def cover(
    veil: Veil,
    *,
    at_s: float = 0.0,
    faces: list[Seen] | None = None,
    people: list[Seen] | None = None,
    picture: Picture = STREET,
) -> Veiled | None:
    """Cover a picture."""
    taken = veil.take(shot_of(picture, at_s=at_s), faces=faces, people=people)
    return taken.cover() if taken else None


def is_covered(veiled: Veiled | None, region: tuple[float, ...]) -> bool:
    """Whether the middle of a region is not what it was."""
    assert veiled is not None
    x, y = (region[0] + region[2]) / 2 * 640, (region[1] + region[3]) / 2 * 360
    part = np.s_[int(y) - 4 : int(y) + 4, int(x) - 4 : int(x) + 4]
    return bool((veiled.pixels[part] != _noisy()[part]).mean() > 0.5)


def _noisy() -> Picture:
    return np.random.default_rng(3).integers(0, 255, (360, 640, 3)).astype(np.uint8)


def test_a_face_is_covered_and_the_rest_is_left() -> None:
    """The picture that was given stays as it is."""
    picture = _noisy()
    before = picture.copy()
    veiled = cover(Veil(), faces=[seen(FACE)], people=[], picture=picture)
    assert is_covered(veiled, FACE)
    assert not is_covered(veiled, (0.8, 0.8, 0.9, 0.9))
    assert (picture == before).all()
    assert veiled is not None
    assert (veiled.faces, veiled.heads) == (1, 0)


def test_nothing_leaves_that_was_not_looked_at_for_faces_and_people() -> None:
    """It is withheld, and counted."""
    veil = Veil()
    assert cover(veil, faces=None, people=[]) is None
    assert cover(veil, faces=[], people=None) is None
    assert veil.withheld == 2


def test_a_face_that_is_missed_once_stays_covered() -> None:
    """For a while, where it was."""
    veil, picture = Veil(), _noisy()
    cover(veil, at_s=0.0, faces=[seen(FACE)], people=[], picture=picture)
    soon = cover(veil, at_s=HOLD_S / 2, faces=[], people=[], picture=picture)
    late = cover(veil, at_s=HOLD_S + 0.1, faces=[], people=[], picture=picture)
    assert is_covered(soon, FACE)
    assert not is_covered(late, FACE)


def test_a_face_found_in_a_picture_that_is_withheld_is_held_too() -> None:
    """What is known of faces is never forgotten early."""
    veil, picture = Veil(), _noisy()
    cover(veil, at_s=0.0, faces=[seen(FACE)], people=None, picture=picture)
    soon = cover(veil, at_s=0.2, faces=[], people=[], picture=picture)
    assert is_covered(soon, FACE)


@pytest.mark.parametrize(("score", "heads"), [(None, 1), (0.35, 1), (0.9, 0)])
def test_a_head_is_covered_where_its_face_is_not_sure(
    score: float | None, heads: int
) -> None:
    """Seen from behind, turned, or too small for the detector."""
    faces = [] if score is None else [seen(FACE, score)]
    veiled = cover(Veil(), faces=faces, people=[seen(PERSON)], picture=_noisy())
    assert veiled is not None
    assert veiled.heads == heads
    assert is_covered(veiled, FACE)


@given(
    st.tuples(*[st.floats(-0.5, 1.5) for _ in range(4)]),
    st.integers(1, 60),
    st.integers(1, 90),
)
def test_what_is_pixelated_has_few_colours(
    region: tuple[float, float, float, float], rows: int, columns: int
) -> None:
    """As many as blocks, wherever the region lies, partly outside or empty."""
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 255, (rows, columns, 3)).astype(np.uint8)
    before = picture.copy()
    pixelate(picture, region)
    changed = (picture != before).any(axis=2)
    colours = np.unique(picture[changed], axis=0)
    assert len(colours) <= (BLOCKS + 1) ** 2


def test_only_the_veil_makes_veiled_pictures_and_only_they_are_encoded() -> None:
    """Read from the source: no path exports a picture that was not veiled."""
    root = Path(skerry.__file__).parent
    made, encoded = set(), set()
    places = [*(root / "edge" / "streams").glob("*.py"), *(root / "app").rglob("*.py")]
    for path in places:
        parts = path.relative_to(root).parts
        is_of_streams = "streams" in parts or path.stem == "stream"
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not is_of_streams:
                continue
            name = ast.unparse(node.func).rpartition(".")[2]
            if name == "Veiled":
                made.add(path.stem)
            if name.startswith(("encode_", "write_clip", "make_clip", "tobytes")):
                encoded.add(path.stem)
    assert made == {"privacy"}
    # `cameras` makes the encoder of clips that `leaving` is given, which calls it.
    assert encoded == {"leaving", "cameras"}


def test_what_leaves_is_made_of_veiled_pictures() -> None:
    """Each function that encodes takes `Veiled`, or what `keep` made of one."""
    path = Path(skerry.__file__).parent / "edge" / "streams" / "leaving.py"
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith(("to_", "keep")):
            first = node.args.args[0]
            assert first.annotation is not None
            assert ast.unparse(first.annotation) in {"Veiled", "Sequence[Kept]"}
