from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from skerry.cloud.inbox import LARGEST_SEQ
from skerry.cloud.ingest import _read
from skerry.comms.codec import is_epoch
from skerry.comms.topics import Topic
from skerry.core.messages import Direction

PLACE = Topic(tenant="main", device="gate-1", direction=Direction.UP, kind="event")
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
ENVELOPES = st.fixed_dictionaries(
    {},
    optional={
        "schema": st.sampled_from(["skerry.message/1", "skerry.message/9"]) | VALUES,
        "kind": st.just("event") | VALUES,
        "device": st.just("gate-1") | VALUES,
        "epoch": st.just("e") | VALUES,
        "seq": st.integers(-2, 9) | VALUES,
        "sent_at_ms": st.just(1) | VALUES,
        "body": VALUES,
    },
)


@given(payload=st.binary() | ENVELOPES.map(msgspec.json.encode))
def test_any_payload_is_read_rejected_or_dropped(payload: bytes) -> None:
    """Whatever comes has a place to be counted in, or is dropped; nothing is raised."""
    arrival = _read(PLACE, payload)
    if arrival is None:
        return
    message = arrival.message
    assert (arrival.device, message.device, message.kind) == (
        "gate-1",
        "gate-1",
        "event",
    )
    assert 0 <= message.seq <= LARGEST_SEQ
    assert is_epoch(message.epoch)
    if arrival.error is not None:
        assert message.seq > 0
        assert message.epoch
