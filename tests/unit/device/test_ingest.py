from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from skerry.core.video import Attention
from skerry.device._video import Packet
from skerry.device.ingest import MOST_HELD, Ingest, Packets


def packet(number: int, *, gop: int = 10, size_bytes: int = 300) -> Packet:
    """A packet of a stream in which each tenth picture stands alone."""
    is_key = number % gop == 0
    size = 5000 if is_key else size_bytes
    return Packet(pts_s=number / 5, is_key=is_key, size_bytes=size, coded=("p", number))


def take(
    ingest: Ingest,
    one: Packet,
    *,
    late_s: float = 0.0,
    attention: Attention = Attention.FULL,
) -> list[int]:
    """The numbers of what is decoded."""
    assert one.pts_s is not None
    chosen: Packets = ingest.take(
        one, late_s=late_s, period_s=0.2, now_s=one.pts_s, attention=attention
    )
    return [each.coded[1] for each in chosen]


def test_each_picture_is_decoded_from_the_first_that_stands_alone() -> None:
    """What comes before it would be a smear."""
    ingest = Ingest(share=1)
    assert [take(ingest, packet(number)) for number in range(8, 13)] == [
        [],
        [],
        [10],
        [11],
        [12],
    ]


def test_an_idle_camera_decodes_what_stands_alone() -> None:
    """And all since then at one go, once it is watched again."""
    ingest = Ingest(share=1)
    idle = [take(ingest, packet(n), attention=Attention.IDLE) for n in range(14)]
    assert [chosen for chosen in idle if chosen] == [[0], [10]]
    assert take(ingest, packet(14)) == [11, 12, 13, 14]
    assert take(ingest, packet(15)) == [15]


def test_a_packet_of_odd_size_wakes_an_idle_camera() -> None:
    """For a second: then it is up to who watches."""
    ingest = Ingest(share=1)
    for number in range(16):
        take(ingest, packet(number), attention=Attention.IDLE)
    odd = packet(16, size_bytes=4000)
    assert take(ingest, odd, attention=Attention.IDLE) == [11, 12, 13, 14, 15, 16]
    assert take(ingest, packet(17), attention=Attention.IDLE) == [17]
    assert take(ingest, packet(22), attention=Attention.IDLE) == []


def test_what_is_late_is_shed_up_to_the_next_that_stands_alone() -> None:
    """There is no queue: an old picture is of no use."""
    ingest = Ingest(share=1)
    take(ingest, packet(0))
    assert take(ingest, packet(1), late_s=1.0) == []
    assert take(ingest, packet(2)) == []
    assert take(ingest, packet(10)) == [10]
    assert ingest.shed == 1
    assert "faster" in ingest.why


def test_a_camera_that_costs_too_much_is_shed() -> None:
    """A flood of pictures takes its share and no more."""
    ingest = Ingest(share=0.1)
    decoded = 0
    for number in range(500):
        one = Packet(pts_s=number / 500, is_key=True, size_bytes=9000, coded=("p", 0))
        if take(ingest, one):
            decoded += 1
            ingest.spent(0.02, now_s=number / 500)
    assert decoded * 0.02 <= 1.0 + 0.1 + 0.02
    assert ingest.shed > 400
    assert "share" in ingest.why


def test_an_idle_camera_keeps_no_endless_row_of_packets() -> None:
    """One that never sends a picture that stands alone is begun anew."""
    ingest = Ingest(share=1)
    take(ingest, packet(0))
    for number in range(1, 3 * MOST_HELD):
        take(ingest, packet(number, gop=10_000), attention=Attention.IDLE)
    assert len(ingest._held) <= MOST_HELD


@given(
    st.lists(
        st.tuples(
            st.booleans(), st.sampled_from([0.0, 9.0]), st.sampled_from(Attention)
        )
    )
)
def test_nothing_is_decoded_without_what_it_needs(
    steps: list[tuple[bool, float, Attention]],
) -> None:
    """All since the last picture that stands alone, in order, none twice."""
    ingest = Ingest(share=1)
    last: int | None = None
    for number, (is_key, late_s, attention) in enumerate(steps):
        one = Packet(
            pts_s=number / 5, is_key=is_key, size_bytes=300, coded=("p", number)
        )
        for decoded in take(ingest, one, late_s=late_s, attention=attention):
            starts = steps[decoded][0]
            assert starts or last == decoded - 1
            last = decoded
