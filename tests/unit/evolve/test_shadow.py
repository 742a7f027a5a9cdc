from __future__ import annotations

import pytest

from skerry.core.documents import Json
from skerry.core.errors import ConflictError, DataError
from skerry.core.fleet import Shadow, Stamp
from skerry.evolve.shadow import (
    DEEPEST,
    LARGEST_SIDE_BYTES,
    REMOVED_STAMPS,
    delta,
    merge_patch,
    report,
    set_desired,
)

EMPTY = Shadow(device="gate-1")

# RFC 7396, appendix A, all of it: original, patch, result.
APPENDIX: list[tuple[Json, Json, Json]] = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    (
        {"a": {"b": "c"}},
        {"a": {"b": "d", "c": None}},
        {"a": {"b": "d"}},
    ),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    (["a", "b"], ["c", "d"], ["c", "d"]),
    ({"a": "b"}, ["c"], ["c"]),
    ({"a": "foo"}, None, None),
    ({"a": "foo"}, "bar", "bar"),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]


@pytest.mark.parametrize(("original", "patch", "result"), APPENDIX)
def test_merge_patch_is_that_of_the_standard(
    original: Json, patch: Json, result: Json
) -> None:
    """Each example of RFC 7396's appendix comes out as printed there."""
    assert merge_patch(original, patch) == result


def test_a_change_is_stamped() -> None:
    """The version grows by one, and only the keys that changed get the stamp."""
    first = set_desired(EMPTY, {"a": 1, "b": {"c": 2}}, now_ms=10)
    second = set_desired(first, {"a": 1, "b": {"c": 3}}, now_ms=20)
    assert (first.version, second.version) == (1, 2)
    assert second.desired == {"a": 1, "b": {"c": 3}}
    assert second.desired_stamps == {
        "a": Stamp(version=1, at_ms=10),
        "b": Stamp(version=2, at_ms=20),
    }
    assert second.reported_stamps == {}


def test_both_sides_share_one_version() -> None:
    """A report changes the reported side, its stamps and the version, nothing else."""
    wanted = set_desired(EMPTY, {"a": 1}, now_ms=10)
    said = report(wanted, {"a": 1}, now_ms=20)
    assert said.version == 2
    assert said.reported == {"a": 1}
    assert said.reported_stamps == {"a": Stamp(version=2, at_ms=20)}
    assert (said.desired, said.desired_stamps) == (
        wanted.desired,
        wanted.desired_stamps,
    )


def test_what_changes_nothing_changes_no_version() -> None:
    """The shadow itself comes back."""
    shadow = set_desired(EMPTY, {"a": {"b": [1, {"c": None}]}}, now_ms=10)
    assert set_desired(shadow, {}, now_ms=20) is shadow
    assert set_desired(shadow, {"x": None, "a": {"y": None}}, now_ms=20) is shadow
    assert set_desired(shadow, {"a": {"b": [1, {"c": None}]}}, now_ms=20) is shadow


def test_json_values_are_not_python_values() -> None:
    """1, 1.0 and true are equal in Python and three values here."""
    one = report(EMPTY, {"a": 1}, now_ms=1)
    assert report(one, {"a": True}, now_ms=2).version == 2
    assert report(one, {"a": 1.0}, now_ms=2).version == 2
    wanted = set_desired(one, {"a": True}, now_ms=3)
    assert delta(wanted) == {"a": True}


def test_a_removed_key_keeps_its_stamp() -> None:
    """One can see when it went; of many removed keys the last are remembered."""
    shadow = report(EMPTY, {"a": 1}, now_ms=1)
    shadow = report(shadow, {"a": None}, now_ms=2)
    assert shadow.reported == {}
    assert shadow.reported_stamps == {"a": Stamp(version=2, at_ms=2)}
    for number in range(REMOVED_STAMPS):
        shadow = report(shadow, {f"k{number}": 1}, now_ms=3)
        shadow = report(shadow, {f"k{number}": None}, now_ms=4)
    assert len(shadow.reported_stamps) == REMOVED_STAMPS
    assert "a" not in shadow.reported_stamps


def test_a_stale_version_is_refused() -> None:
    """A writer does not overwrite what it has not read; both versions are said."""
    shadow = set_desired(EMPTY, {"a": 1}, now_ms=1, version=0)
    with pytest.raises(ConflictError, match=r"gate-1 is at version 1.*version 0"):
        set_desired(shadow, {"a": 2}, now_ms=2, version=0)
    assert set_desired(shadow, {"a": 2}, now_ms=2, version=1).version == 2


def test_a_side_is_bounded() -> None:
    """The largest side is taken, one byte more is refused with both sizes."""
    room = LARGEST_SIDE_BYTES - len('{"a":""}')
    assert report(EMPTY, {"a": "x" * room}, now_ms=1).version == 1
    with pytest.raises(DataError, match=f"{LARGEST_SIDE_BYTES + 1} bytes, at most"):
        report(EMPTY, {"a": "x" * (room + 1)}, now_ms=1)
    half = set_desired(EMPTY, {"a": "x" * (room // 2)}, now_ms=1)
    with pytest.raises(DataError, match="desired side of gate-1"):
        set_desired(half, {"b": "x" * room}, now_ms=2)
    assert report(half, {"b": "x" * room}, now_ms=2).version == 2


def test_depth_is_bounded() -> None:
    """Deeper than any use is refused, however deep it is."""
    patch: Json = 1
    for _ in range(DEEPEST):
        patch = {"a": patch}
    assert isinstance(patch, dict)
    assert report(EMPTY, patch, now_ms=1).version == 1
    for deeper in ({"a": patch}, {"a": [patch]}):
        with pytest.raises(DataError, match="levels deep"):
            report(EMPTY, deeper, now_ms=1)


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), b"x", {1: 2}, [{"a": object()}]]
)
def test_what_is_not_json_is_refused(value: Json) -> None:
    """NaN, bytes and numbers as keys are no JSON."""
    with pytest.raises(DataError, match=r"not JSON|no text"):
        set_desired(EMPTY, {"a": value}, now_ms=1)


@pytest.mark.parametrize(
    ("desired", "reported", "missing"),
    [
        ({}, {"a": 1}, {}),
        ({"a": 1}, {}, {"a": 1}),
        ({"a": 1}, {"a": 1, "b": 2}, {}),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "d": 4}}, {"a": {"c": 2}}),
        ({"a": {}}, {}, {"a": {}}),
        ({"a": {}}, {"a": {"b": 1}}, {}),
        ({"a": [1]}, {"a": [1, 2]}, {"a": [1]}),
        ({"a": {"b": 1}}, {"a": 1}, {"a": {"b": 1}}),
    ],
)
def test_delta_is_what_is_not_reported(
    desired: dict[str, Json], reported: dict[str, Json], missing: dict[str, Json]
) -> None:
    """Objects are compared member by member, everything else as a whole."""
    shadow = Shadow(device="a", desired=desired, reported=reported)
    assert delta(shadow) == missing
