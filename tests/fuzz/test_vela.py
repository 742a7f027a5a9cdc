"""Vela's files: what is written is read, and garbage is refused politely."""

from __future__ import annotations

from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st

from skerry.adapt.vela import parse_layers, parse_summary
from skerry.core.errors import DataError
from tests.velas import HEADER, LAYERS, SUMMARY

_cells = st.text(
    st.characters(codec="utf-8", exclude_characters=",\n\r", exclude_categories=["C"]),
    min_size=1,
)
_rows = st.tuples(
    _cells,
    _cells,
    st.sampled_from(["NPU", "CPU"]),
    st.integers(0, 2**50),
    st.integers(0, 2**50),
    st.text(st.characters(codec="utf-8", exclude_characters="\n\r"), min_size=1).filter(
        str.strip
    ),
)


@given(st.lists(_rows, max_size=5))
def test_each_line_is_one_operator(
    rows: list[tuple[str, str, str, int, int, str]],
) -> None:
    """Whatever the names hold, commas too, lines come back as they were."""
    text = HEADER + "\n"
    for source, op_type, kind, cycles, macs, name in rows:
        cells = (source, op_type, kind, 1, 1.5, cycles, 1, 1, 1, 1, 1, 1, macs, 1, 1)
        text += ",".join(str(cell) for cell in (*cells, name)) + "\n"
    found = parse_layers(text.encode())
    assert [
        (one.source, one.op_type, one.kind.upper(), one.cycles, one.macs, one.name)
        for one in found
    ] == rows


def _damaged(text: str) -> st.SearchStrategy[bytes]:
    content = text.encode()
    places = st.integers(0, len(content))
    return st.builds(
        lambda at, by, cut: content[:at] + by + content[at + cut :],
        places,
        st.binary(max_size=8),
        st.integers(0, 40),
    )


@given(st.binary(max_size=400) | _damaged(LAYERS) | _damaged(SUMMARY))
def test_garbage_is_refused(content: bytes) -> None:
    """Nothing but a `DataError` comes out of bytes that nobody vouches for."""
    for parse in (parse_layers, parse_summary):
        with suppress(DataError):
            parse(content)
