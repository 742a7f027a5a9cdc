"""What comes from outside while blobs are carried: any bytes are read or refused."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from skerry.comms.peering import is_peer_url
from skerry.comms.ranges import read_content_range, read_range
from skerry.core.chunks import MAGIC, Chunks, read_chunks, write_chunks
from skerry.core.errors import DataError
from skerry.core.release import Blob
from skerry.edge.neighbours import read_neighbourhood

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner),
    max_leaves=6,
)


@given(
    content=st.binary(max_size=300) | st.binary(max_size=300).map(MAGIC.__add__),
    size_bytes=st.integers(1, 1 << 40),
)
def test_any_chunk_list_is_read_or_refused(content: bytes, size_bytes: int) -> None:
    """What is read covers the blob, chunk by chunk, and nothing else."""
    blob = Blob(sha256="a" * 64, size_bytes=size_bytes)
    try:
        chunks = read_chunks(content, blob)
    except DataError:
        return
    assert write_chunks(chunks) == content
    assert chunks.span(0)[0] == 0
    assert chunks.span(len(chunks) - 1)[1] == size_bytes


@given(content=st.binary(min_size=1, max_size=20_000))
def test_any_content_is_cut_and_put_together(content: bytes) -> None:
    """The list of a content is a list of it."""
    chunks = Chunks.cut(content)
    assert read_chunks(write_chunks(chunks), Blob.of(content)) == chunks
    spans = [chunks.span(index) for index in range(len(chunks))]
    assert b"".join(content[start:end] for start, end in spans) == content


@given(
    header=st.none() | st.text() | st.from_regex(r"bytes=\d*-\d*", fullmatch=True),
    size_bytes=st.integers(1, 100),
)
def test_any_range_lies_within_or_is_outside(
    header: str | None, size_bytes: int
) -> None:
    """What is sent are bytes that are there."""
    wanted = read_range(header, size_bytes)
    if wanted is not None and wanted[0] <= wanted[1]:
        assert 0 <= wanted[0] <= wanted[1] < size_bytes


@given(header=st.text() | st.from_regex(r"bytes \d+-\d+/(\d+|\*)", fullmatch=True))
def test_any_content_range_makes_sense_or_is_none(header: str) -> None:
    """It begins before it ends."""
    read = read_content_range(header)
    assert read is None or 0 <= read[0] < read[1]


@given(answer=st.dictionaries(st.sampled_from(["keys", "peers", "x"]), _JSON))
def test_any_neighbourhood_is_read(answer: dict[str, object]) -> None:
    """What makes no sense is left out."""
    read = read_neighbourhood(answer)  # type: ignore[arg-type]
    assert all(len(key) == 32 for key in read.keys)
    assert all(is_peer_url(url) for url in read.peers)
