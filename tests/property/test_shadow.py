from __future__ import annotations

from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from skerry.core.documents import Json
from skerry.core.errors import DataError
from skerry.core.fleet import Shadow
from skerry.evolve.shadow import delta, merge_patch, report, set_desired

KEYS = st.sampled_from(["a", "b", "c"])
LEAVES = st.none() | st.booleans() | st.integers(-2, 2) | st.text(max_size=2)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(KEYS, inner),
    max_leaves=8,
)
PATCHES = st.dictionaries(KEYS, VALUES)


@given(target=VALUES, patch=VALUES)
def test_a_patch_applied_twice_is_applied_once(target: Json, patch: Json) -> None:
    """Merge patches are idempotent, so a device may send one again."""
    once = merge_patch(target, patch)
    assert merge_patch(once, patch) == once


@given(patches=st.lists(st.tuples(st.booleans(), PATCHES), max_size=8))
def test_the_version_counts_the_changes(
    patches: list[tuple[bool, dict[str, Json]]],
) -> None:
    """Each real change of a side adds one and is stamped; nothing else does."""
    shadow = Shadow(device="a")
    for at_ms, (is_desired, patch) in enumerate(patches):
        change = set_desired if is_desired else report
        changed = change(shadow, patch, now_ms=at_ms)
        sides = (repr(shadow.desired), repr(shadow.reported))
        is_change = (repr(changed.desired), repr(changed.reported)) != sides
        assert (changed is not shadow) == is_change
        assert changed.version == shadow.version + is_change
        stamps = {**changed.desired_stamps, **changed.reported_stamps}
        assert all(stamp.version <= changed.version for stamp in stamps.values())
        shadow = changed


@given(desired=PATCHES, reported=PATCHES)
def test_delta_is_empty_only_if_all_is_reported(
    desired: dict[str, Json], reported: dict[str, Json]
) -> None:
    """Empty if and only if each wanted member is reported; reporting it empties it."""
    shadow = Shadow(device="a")
    shadow = report(set_desired(shadow, desired, now_ms=1), reported, now_ms=2)
    assert (delta(shadow) == {}) == _covers(shadow.reported, shadow.desired)
    healed = report(shadow, delta(shadow), now_ms=3)
    assert delta(healed) == {} or _holds_null(shadow.desired)


@given(patch=st.dictionaries(st.text(), VALUES | st.floats()))
def test_any_object_is_taken_or_refused(patch: dict[str, Json]) -> None:
    """What comes out is a shadow or an error of our tree."""
    try:
        shadow = report(Shadow(device="a"), patch, now_ms=1)
    except DataError:
        return
    assert shadow.version <= 1


def _covers(reported: Json, desired: Json) -> bool:
    if isinstance(desired, Mapping) and isinstance(reported, Mapping):
        return all(
            key in reported and _covers(reported[key], value)
            for key, value in desired.items()
        )
    return repr(desired) == repr(reported)


def _holds_null(value: Json) -> bool:
    if isinstance(value, Mapping):
        return any(_holds_null(inner) for inner in value.values())
    return value is None or (isinstance(value, list) and any(map(_holds_null, value)))
