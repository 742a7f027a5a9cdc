from __future__ import annotations

import contextlib
import json
import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from skerry.core.errors import DataError, StateError, TrustError
from skerry.edge.desired import read_desired
from skerry.edge.enrolment import read_answer
from skerry.edge.sealed_folder import GivenKey, open_vault
from skerry.edge.slots_record import read_slots
from skerry.edge.vault import SEAL_FILE
from skerry.evolve.trust.at_rest import DeviceKey
from tests.strategies import damaged

GOLDEN = Path(__file__).parents[1] / "golden" / "slots-1.json"
RECORD = GOLDEN.read_bytes()
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["releases", "version", "rollout", "collect", "meter", "desired"]
            )
            | st.text(max_size=5),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
OBJECTS = st.dictionaries(st.sampled_from(["version", "desired"]), JSON)


@given(content=damaged((RECORD, b'{"schema": "skerry.slots/1", "names": {}}')))
def test_a_damaged_record_is_a_data_error(content: bytes) -> None:
    """Or still a record, of slots that hold what they say."""
    with contextlib.suppress(DataError):
        for slots in read_slots(content, name="slots.json").values():
            assert slots.active is None or slots.kept(slots.active) is not None


@given(body=OBJECTS)
def test_a_desire_from_outside_is_read_or_refused(body: dict[str, object]) -> None:
    """What is read can be wanted."""
    with contextlib.suppress(DataError):
        wants = read_desired(body)
        assert all(want.version >= 1 for want in wants.releases.values())


@given(version=st.integers(0, 9), releases=JSON)
def test_desired_releases_are_read_or_left_out(version: int, releases: object) -> None:
    """Whatever stands there."""
    with contextlib.suppress(DataError):
        read_desired({"version": version, "desired": {"releases": releases}})


ANSWER = json.dumps(
    {
        "tenant": "main",
        "device": "gw",
        "api_token": "a",
        "mqtt": {"host": "h", "port": 1883, "username": "u", "password": "p"},
        "root": "{}",
    }
).encode()


@given(content=damaged((ANSWER,)))
def test_an_answer_to_an_enrolment_is_read_or_refused(content: bytes) -> None:
    """Only a whole one makes an identity."""
    try:
        answer = json.loads(content)
    except ValueError:
        return
    if not isinstance(answer, dict):
        return
    with contextlib.suppress(StateError):
        identity, _ = read_answer(answer, hub="http://h")
        assert 0 < identity.mqtt_port < 65_536


@given(content=damaged((b'{"schema":"skerry.seal/1","state":"sealed","proof":"00"}',)))
def test_a_damaged_seal_opens_nothing(content: bytes) -> None:
    """Whoever edits it cannot have a folder believed."""
    given = GivenKey(key=DeviceKey(b"k" * 32), level="file")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / SEAL_FILE
        path.write_bytes(content)
        with contextlib.suppress(TrustError, DataError):
            open_vault(Path(folder), given)
            raise AssertionError(content)
