from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from skerry.core.errors import TrustError
from skerry.edge.instructed import Instructed
from skerry.evolve.trust import Instructions, make_key, sign_instructions
from tests.trusting import World

DESIRED: dict[str, Any] = {"releases": {"meter": {"version": 2, "x": [1.5, None, "ä"]}}}


@pytest.fixture(scope="module")
def world() -> World:
    """A hub and its keys."""
    return World()


def told(
    world: World, version: int, at_ms: int, *, device: str = "gw", key: str = "hub"
) -> dict[str, Any]:
    """What the hub says."""
    said = Instructions(
        tenant="main", device=device, version=version, desired=DESIRED, at_ms=at_ms
    )
    signed = sign_instructions(said, hub_key=world.keys[key])
    return {"version": version, "desired": DESIRED, "signed": signed, "later": 1}


def listen(folder: Path, *, accepts_unsigned: bool = False) -> Instructed:
    """A device, as after a start."""
    return Instructed(folder, tenant="main", accepts_unsigned=accepts_unsigned)


def refused(device: Instructed, root: bytes, body: dict[str, Any]) -> str:
    """Why it does not obey."""
    with pytest.raises(TrustError) as caught:
        device.accept(root, "gw", body)
    assert caught.value.hint
    return caught.value.reason


def test_it_obeys_what_is_newer(world: World, tmp_path: Path) -> None:
    """In the order of signing, across restarts; a restored hub counts from less."""
    root = world.root()
    assert listen(tmp_path).accept(root, "gw", told(world, 5, 100))
    assert listen(tmp_path).accept(root, "gw", told(world, 5, 100))
    assert refused(listen(tmp_path), root, told(world, 9, 99)) == "replayed"
    assert refused(listen(tmp_path), root, told(world, 4, 100)) == "replayed"
    assert listen(tmp_path).accept(root, "gw", told(world, 3, 200))
    assert refused(listen(tmp_path), root, told(world, 5, 100)) == "replayed"


def test_the_same_again_writes_nothing(world: World, tmp_path: Path) -> None:
    """A hub that repeats itself does not wear out the flash."""
    device, root = listen(tmp_path), world.root()
    device.accept(root, "gw", told(world, 5, 100))
    before = (tmp_path / "instructed.json").stat().st_mtime_ns
    for at_ms in (200, 300):
        device.accept(root, "gw", told(world, 5, at_ms))
    assert (tmp_path / "instructed.json").stat().st_mtime_ns == before
    assert refused(device, root, told(world, 6, 250)) == "replayed"


@pytest.mark.parametrize("spoil", ["device", "key", "version", "desired", "at_ms"])
def test_anything_else_is_refused(world: World, tmp_path: Path, spoil: str) -> None:
    """For another device, by another key, or changed on the way."""
    device = "other" if spoil == "device" else "gw"
    key = "targets" if spoil == "key" else "hub"
    body = told(world, 5, 100, device=device, key=key)
    if spoil == "version":
        body["version"] = 6
    if spoil == "desired":
        body["desired"] = {}
    if spoil == "at_ms":
        body["signed"]["at_ms"] = 200
    assert refused(listen(tmp_path), world.root(), body) == "untrusted"
    assert listen(tmp_path).accept(world.root(), "gw", told(world, 1, 1))


@pytest.mark.parametrize(
    "signed",
    [
        7,
        {},
        {"at_ms": 0, "signatures": []},
        {"at_ms": 2**60, "signatures": []},
        {"at_ms": 1, "signatures": [{"keyid": "a", "sig": "zz"}] * 9},
        {"at_ms": 1, "signatures": [{"keyid": 1}]},
    ],
)
def test_nonsense_is_corrupt(world: World, tmp_path: Path, signed: Any) -> None:
    """And never an error of another kind."""
    body = told(world, 5, 100) | {"signed": signed}
    assert refused(listen(tmp_path), world.root(), body) == "corrupt"


def test_nobody_else_speaks_for_the_hub(world: World, tmp_path: Path) -> None:
    """Unsigned words count only if the policy says so, until the first signed ones."""
    unsigned, root = {"version": 1, "desired": DESIRED}, world.root()
    assert refused(listen(tmp_path), root, unsigned) == "untrusted"
    old = listen(tmp_path, accepts_unsigned=True)
    assert not old.accept(root, "gw", unsigned)
    assert old.accept(root, "gw", told(world, 1, 100))
    for device in (old, listen(tmp_path, accepts_unsigned=True)):
        assert refused(device, root, unsigned) == "untrusted"


def test_new_online_keys_begin_a_new_count(world: World, tmp_path: Path) -> None:
    """What a thief signed into the future ends with his key."""
    device = listen(tmp_path)
    device.accept(world.root(), "gw", told(world, 5, 10**13))
    assert refused(device, world.root(), told(world, 6, 200)) == "replayed"
    stolen, world.keys["hub"] = world.keys["hub"], make_key()
    root = world.root(2)
    assert device.accept(root, "gw", told(world, 6, 200))
    new, world.keys["hub"] = world.keys["hub"], stolen
    assert refused(listen(tmp_path), root, told(world, 7, 10**13)) == "untrusted"
    world.keys["hub"] = new


def test_a_damaged_record_costs_no_trust(world: World, tmp_path: Path) -> None:
    """What is signed is obeyed; what is not, is not even with the policy."""
    (tmp_path / "instructed.json").write_bytes(b"{")
    device = listen(tmp_path, accepts_unsigned=True)
    assert refused(device, world.root(), {"version": 1, "desired": {}}) == "untrusted"
    assert device.accept(world.root(), "gw", told(world, 1, 100))
