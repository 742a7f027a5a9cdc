"""Ways over deltas: the cheapest is found, and only a harmless one is taken."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise, permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.core.errors import DataError
from skerry.core.release import Blob
from skerry.evolve.ways import (
    MOST_HOPS,
    Hop,
    cheapest_way,
    is_sound,
    read_offer,
    way_bytes,
)


def blob(digit: str, size_bytes: int) -> Blob:
    """A blob whose hash is one digit."""
    return Blob(sha256=digit * 64, size_bytes=size_bytes)


A, B, C, D = (blob(digit, 1000) for digit in "abcd")


def hop(origin: Blob, result: Blob, size_bytes: int) -> Hop:
    """A delta of some bytes."""
    return Hop(origin=origin.sha256, result=result, delta=blob("e", size_bytes))


def test_direct_or_through_another_whichever_is_cheaper() -> None:
    """And nothing where nothing leads there."""
    chain = [hop(A, B, 10), hop(B, C, 20)]
    assert cheapest_way([*chain, hop(A, C, 31)], A.sha256, C.sha256) == tuple(chain)
    direct = hop(A, C, 29)
    assert cheapest_way([*chain, direct], A.sha256, C.sha256) == (direct,)
    assert cheapest_way(chain, C.sha256, A.sha256) == ()
    assert cheapest_way(chain, A.sha256, A.sha256) == ()


def test_a_way_has_so_many_hops_at_most() -> None:
    """A longer chain is none, however cheap."""
    blobs = [blob(digit, 1000) for digit in "0123456"]
    hops = [hop(one, two, 1) for one, two in pairwise(blobs)]
    assert len(cheapest_way(hops, "0" * 64, str(MOST_HOPS) * 64)) == MOST_HOPS
    assert cheapest_way(hops, "0" * 64, str(MOST_HOPS + 1) * 64) == ()


@given(
    st.lists(
        st.tuples(
            st.sampled_from([A, B, C, D]),
            st.sampled_from([A, B, C, D]),
            st.integers(1, 99),
        ),
        max_size=10,
    )
)
def test_it_is_the_cheapest_of_all(edges: list[tuple[Blob, Blob, int]]) -> None:
    """Compared with all ways there are."""
    hops = [hop(*edge) for edge in edges]
    prices = []
    for between in [(), (B,), (C,), *permutations((B, C))]:
        stops = [A, *between, D]
        price = 0
        for one, two in pairwise(stops):
            fits = [h for h in hops if (h.origin, h.result) == (one.sha256, two)]
            price += min((h.delta.size_bytes for h in fits), default=10_000)
        prices.append(price)
    found = cheapest_way(hops, A.sha256, D.sha256)
    assert way_bytes(found) == (min(prices) if min(prices) < 10_000 else 0)


def test_only_a_way_that_can_do_no_harm_is_sound() -> None:
    """Each of its deltas gives a signed blob, the last the model; all cost less."""
    way = (hop(A, B, 10), hop(B, C, 20))
    signed = {one.sha256: one for one in (A, B, C)}
    assert is_sound(way, A.sha256, C, signed)
    lies = [
        (),
        way[:1],
        way[1:],
        (hop(A, B, 10), hop(B, C, 990)),
        (hop(A, replace(B, size_bytes=10**9), 10), way[1]),
        (hop(A, B, 1), hop(B, A, 1), hop(A, C, 1)),
        (hop(A, B, 10), hop(D, C, 20)),
        (way[0], replace(way[1], delta=blob("e", 0))),
        (way[0], replace(way[1], delta=replace(D, sha256="../hub"))),
        tuple(hop(A, C, 1) for _ in range(MOST_HOPS + 1)),
    ]
    assert not [lie for lie in lies if is_sound(lie, A.sha256, C, signed)]
    assert not is_sound(way, A.sha256, C, {**signed, B.sha256: None})
    assert not is_sound(way, D.sha256, C, signed)


HOP = {
    "origin": "a" * 64,
    "result": {"sha256": "b" * 64, "size_bytes": 9},
    "delta": {"sha256": "c" * 64, "size_bytes": 1},
}


def test_an_offer_is_read() -> None:
    """With what is not known yet; what is no offer is refused."""
    offer = read_offer({"way": [HOP], "wait_s": 2.5, "new": 1})
    assert (offer.wait_s, len(offer.way)) == (2.5, 1)
    assert read_offer({}).way == ()
    for bad in (
        {"way": 3},
        {"way": [{**HOP, "delta": "x"}]},
        {"way": [HOP] * (MOST_HOPS + 1)},
        {"wait_s": -1},
        {"wait_s": 1e9},
        {"wait_s": "soon"},
    ):
        with pytest.raises(DataError):
            read_offer(bad)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["way", "wait_s", "origin", "result", "delta", "sha256"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["way", "wait_s"]), JSON))
def test_any_answer_is_an_offer_or_refused(document: dict[str, object]) -> None:
    """Whatever a hub says."""
    try:
        offer = read_offer(document)  # type: ignore[arg-type]
    except DataError:
        return
    assert not is_sound(offer.way, A.sha256, C, {})
