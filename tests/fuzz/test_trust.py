"""Deltas and signed metadata from outside: only errors of our tree, ever."""

from __future__ import annotations

import json
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from hypothesis import given, settings
from hypothesis import strategies as st
from securesystemslib.formats import encode_canonical
from securesystemslib.signer import CryptoSigner

from skerry.core.errors import DataError, LinkError, SkerryError, TrustError
from skerry.edge.instructed import Instructed
from skerry.evolve.delta import diff, patch
from skerry.evolve.trust import (
    Instructions,
    countersign,
    join_signatures,
    lacking,
    sign_instructions,
)
from tests.trusting import FIRST, FIRST_PATH, SECOND, SECOND_PATH, Device, World

OLD = bytes(range(256)) * 8
NEW = OLD[:700] + b"changed" + OLD[650:]
DELTAS = [diff(OLD, NEW), diff(OLD, OLD[::-1]), diff(OLD, OLD[:-1] + b"x")]

edits = st.lists(
    st.tuples(st.integers(0, 4000), st.integers(0, 255), st.integers(0, 2)),
    min_size=1,
    max_size=5,
)
odd = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=9),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
    st.just("2026-13-99T99:99:99Z"),
    st.just(10**400),
)


def _edited(content: bytes, edits: list[tuple[int, int, int]]) -> bytes:
    """Change, put in or take out single bytes."""
    changed = bytearray(content)
    for place, byte, kind in edits:
        at = place % (len(changed) + 1)
        changed[at : at + (kind != 1)] = b"" if kind == 2 else bytes([byte])
    return bytes(changed)


@settings(max_examples=300, deadline=None)
@given(delta=st.sampled_from(DELTAS), edits=edits)
def test_a_damaged_delta(delta: bytes, edits: list[tuple[int, int, int]]) -> None:
    """It is refused, or gives the right bytes all the same."""
    try:
        got = patch(OLD, _edited(delta, edits), largest_bytes=len(NEW))
    except DataError:
        return
    assert got in {NEW, OLD[::-1], OLD[:-1] + b"x"}


@settings(max_examples=100, deadline=None)
@given(delta=st.binary(max_size=300), old=st.binary(max_size=20))
def test_any_bytes_as_a_delta(delta: bytes, old: bytes) -> None:
    """Bytes that were never a delta are refused."""
    with pytest.raises(DataError):
        patch(old, delta, largest_bytes=1000)


@pytest.fixture(scope="module")
def world() -> World:
    """A hub with two publications."""
    world = World()
    world.publish({"2.main.json": world.listed(2)})
    return world


def _refresh(world: World, served: dict[str, bytes]) -> None:
    """Refresh twice, with a restart between; only our errors may come of it."""
    with tempfile.TemporaryDirectory() as folder:
        device = Device(world, Path(folder))
        device.served = served
        for _ in range(2):
            with suppress(TrustError, LinkError):
                device.trust.refresh()
            device.restart()
            assert device.trust.target(FIRST_PATH) in {None, FIRST}
            assert device.trust.target(SECOND_PATH) in {None, SECOND}


@settings(max_examples=60, deadline=None)
@given(edits=edits, pick=st.integers(0, 4))
def test_damaged_metadata(
    world: World, edits: list[tuple[int, int, int]], pick: int
) -> None:
    """Bytes changed on the way never end in a traceback, nor in false trust."""
    served = world.files()
    name = ("timestamp.json", "2.snapshot.json", "1.targets.json", "2.main.json")[
        pick % 4
    ]
    served[name] = _edited(served[name], edits)
    _refresh(world, served)
    listed = _edited(world.listed(3), edits)
    try:
        world.repository.accept({"3.main.json": listed}, now_ms=world.now_ms)
    except SkerryError:
        return
    world.repository.accept({}, now_ms=world.now_ms)


def _places(node: Any) -> list[tuple[Any, Any]]:
    """Each container of a document with each of its keys."""
    keys = node if isinstance(node, dict) else range(len(node))
    found = []
    for key in keys:
        found.append((node, key))
        if isinstance(node[key], dict | list):
            found += _places(node[key])
    return found


@settings(max_examples=150, deadline=None)
@given(
    which=st.sampled_from(["timestamp.json", "2.snapshot.json", "2.root.json"]),
    value=odd,
    pick=st.integers(0, 10_000),
)
def test_nonsense_that_is_rightly_signed(
    world: World, which: str, value: Any, pick: int
) -> None:
    """A hub or a publisher gone mad cannot crash a device, nor can a stranger."""
    served = world.files() | {"2.root.json": world.root(2)}
    document = json.loads(served[which])
    places = _places(document["signed"])
    node, key = places[pick % len(places)]
    node[key] = value
    signer = CryptoSigner(
        load_pem_private_key(world.keys["root" if "root" in which else "hub"], None)
    )
    try:
        payload = encode_canonical(document["signed"]).encode()
        content = json.dumps(
            document | {"signatures": [signer.sign(payload).to_dict()]}
        )
        served[which] = content.encode()
    except Exception:  # noqa: BLE001 - what has no canonical form cannot be signed
        return
    _refresh(world, served)


@settings(max_examples=100, deadline=None)
@given(value=odd, pick=st.integers(0, 10_000))
def test_instructions_with_nonsense_in_them(
    world: World, value: Any, pick: int
) -> None:
    """What a device is told is refused unless it is what was signed."""
    said = Instructions(
        tenant="main",
        device="gw",
        version=3,
        desired={"releases": {"meter": {"version": 2}}},
        at_ms=100,
    )
    body: dict[str, Any] = {
        "version": 3,
        "desired": {"releases": {"meter": {"version": 2}}},
        "signed": sign_instructions(said, hub_key=world.keys["hub"]),
    }
    node, key = _places(body)[pick % len(_places(body))]
    before, node[key] = node[key], value
    is_same = type(before) is type(value) and before == value
    with tempfile.TemporaryDirectory() as folder:
        device = Instructed(Path(folder), tenant="main", accepts_unsigned=False)
        with suppress(TrustError):
            assert device.accept(world.root(), "gw", body)
            assert is_same


@settings(max_examples=50, deadline=None)
@given(edits=edits)
def test_a_damaged_draft(world: World, edits: list[tuple[int, int, int]]) -> None:
    """A file that comes back from a signer spoils nothing that was signed before."""
    draft, targets = world.listed(3), world.targets(1)
    spoilt = _edited(draft, edits)
    with suppress(SkerryError):
        countersign(spoilt, world.keys["tenant"])
    with suppress(SkerryError):
        lacking(spoilt, "main", targets)
    with suppress(TrustError):
        joined = join_signatures(draft, spoilt, "main", targets)
        assert lacking(joined, "main", targets) == 0
