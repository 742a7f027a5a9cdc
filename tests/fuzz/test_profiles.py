"""Foreign profiles: garbage, and good ones spoilt, are read or refused politely."""

from __future__ import annotations

import contextlib

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from skerry.adapt.profiles import parse_profiles
from skerry.core.errors import DataError
from skerry.core.profile import Profile, join_profiles
from tests.foreign_profiles import ALL
from tests.trace_schema import check_trace
from tests.velas import LAYERS, SUMMARY

_numbers = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
_events = st.dictionaries(
    st.sampled_from(["ph", "name", "ts", "dur", "pid", "tid", "args", "cat", "count"]),
    _numbers
    | st.sampled_from(["X", "B", "E", "M"])
    | st.dictionaries(st.text(), st.text()),
)
_layers = st.dictionaries(
    st.sampled_from(["name", "averageMs", "medianMs", "count", "startComputeMs"]),
    _numbers,
)


def read_or_refuse(content: bytes, *, beside: bytes = b"") -> None:
    """What is read makes a trace; what is not is refused with a hint."""
    found: tuple[Profile, ...] = ()
    refusal = None
    try:
        found = parse_profiles(content, name="it", beside=beside)
    except DataError as error:
        refusal = error
    assert found or (refusal is not None and refusal.hint)
    assert refusal is None or len(refusal.what) < 1000
    check_trace(join_profiles(found))


@given(st.binary(max_size=400) | st.text(max_size=400).map(str.encode))
def test_bytes(content: bytes) -> None:
    """Arbitrary bytes, arbitrary text."""
    with contextlib.suppress(UnicodeEncodeError):
        read_or_refuse(content)


@given(
    st.sampled_from(sorted(ALL)),
    st.integers(0, 4000),
    st.integers(0, 40),
    st.binary(max_size=12),
)
def test_a_profile_that_is_spoilt(kind: str, at: int, cut: int, put: bytes) -> None:
    """Bytes taken out and put in anywhere."""
    good = ALL[kind]
    at %= len(good)
    read_or_refuse(good[:at] + put + good[at + cut :])


@given(
    st.integers(0, 4000), st.integers(0, 40), st.binary(max_size=12), st.integers(0, 1)
)
def test_velas_files_that_are_spoilt(at: int, cut: int, put: bytes, which: int) -> None:
    """Either of the two."""
    files = [LAYERS.encode(), SUMMARY.encode()]
    good = files[which]
    at %= len(good)
    files[which] = good[:at] + put + good[at + cut :]
    read_or_refuse(files[0], beside=files[1])


@given(st.sampled_from(sorted(ALL)), st.sampled_from(sorted(ALL)), st.integers(0, 4000))
def test_profiles_cut_and_joined(first: str, second: str, at: int) -> None:
    """Half of one before another."""
    read_or_refuse(ALL[first][: at % len(ALL[first])] + ALL[second])


@given(
    st.lists(_events)
    | st.lists(_layers)
    | st.fixed_dictionaries({"traceEvents": st.lists(_events)})
)
def test_json_of_wrong_types(document: object) -> None:
    """Known keys with arbitrary values."""
    with contextlib.suppress(UnicodeEncodeError):
        read_or_refuse(msgspec.json.encode(document))
