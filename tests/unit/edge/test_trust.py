from __future__ import annotations

import errno
import hashlib
import json
from pathlib import Path

import pytest

from skerry.core.errors import (
    LinkError,
    StateError,
    StorageError,
    TrustError,
    UsageError,
)
from skerry.edge import trust as trust_module
from skerry.edge import vault as vault_module
from skerry.edge.trust import DeviceTrust
from skerry.evolve.trust import Repository, make_key
from tests.trusting import (
    DAY_S,
    FIRST,
    FIRST_PATH,
    SECOND,
    SECOND_PATH,
    Device,
    World,
    blob,
)

GOLDEN = Path(__file__).parents[2] / "golden"


@pytest.fixture
def world() -> World:
    """A hub with one publication."""
    return World()


@pytest.fixture
def device(world: World, tmp_path: Path) -> Device:
    """A device that has trusted the first publication; a second one is out."""
    device = Device(world, tmp_path / "trust")
    device.trust.refresh()
    world.clock.advance(wall_s=3600)
    world.publish({"2.main.json": world.listed(2)})
    return device


def _refused(device: Device) -> str:
    """The reason for which a refresh is refused.

    What was trusted before must stay usable, after a restart too, and an honest hub
    must be believed afterwards.
    """
    floor_ms = device.trust.time_floor_ms
    with pytest.raises(TrustError) as caught:
        device.trust.refresh()
    assert caught.value.hint
    for _ in range(2):
        assert device.trust.target(FIRST_PATH) == FIRST
        assert device.trust.target(SECOND_PATH) is None
        assert device.trust.time_floor_ms == floor_ms
        device.restart()
    return caught.value.reason


def _recovers(device: Device) -> None:
    """An honest hub is believed."""
    device.served = device.world.files()
    device.trust.refresh()
    assert device.trust.target(SECOND_PATH) == SECOND


def test_a_refresh_brings_what_was_published(device: Device) -> None:
    """Nothing is believed before; after it, and after a restart, everything is."""
    assert device.trust.target(SECOND_PATH) is None
    _recovers(device)
    assert device.trust.time_floor_ms == device.world.now_ms
    device.served = {}
    device.restart()
    assert device.trust.target(FIRST_PATH) == FIRST
    assert device.trust.target(SECOND_PATH) == SECOND
    assert device.trust.target("other/blobs/x") is None


def test_nothing_is_trusted_before_the_first_refresh(
    world: World, tmp_path: Path
) -> None:
    """A pinned root alone vouches for nothing."""
    device = Device(world, tmp_path)
    assert device.trust.target(FIRST_PATH) is None
    assert device.trust.time_floor_ms == 0


def test_a_root_is_pinned_by_its_hash(world: World, tmp_path: Path) -> None:
    """A hub with another root than the enrolment token says is not enrolled at."""
    root = world.root()
    with pytest.raises(TrustError, match="enrolment token") as caught:
        DeviceTrust.pin(tmp_path / "new", root, hashlib.sha256(b"").hexdigest())
    assert caught.value.reason == "untrusted"
    for bad in (b"", b"{}", world.targets(1)):
        with pytest.raises(TrustError) as caught:
            DeviceTrust.pin(tmp_path / "new", bad, hashlib.sha256(bad).hexdigest())
        assert caught.value.reason == "corrupt"
    with pytest.raises(TrustError):
        DeviceTrust.pin(tmp_path / "new", root, "ü")
    assert not (tmp_path / "new").exists()


def test_enrolling_anew_forgets_all_but_the_time(device: Device) -> None:
    """After a new pin the old hub's lists are gone; the time floor is not."""
    floor_ms = device.trust.time_floor_ms
    other = World()
    root = other.root()
    DeviceTrust.pin(device.folder, root, hashlib.sha256(root).hexdigest())
    device.restart()
    assert device.trust.target(FIRST_PATH) is None
    assert device.trust.time_floor_ms == floor_ms > 0


def test_a_device_must_be_enrolled(world: World, tmp_path: Path) -> None:
    """Without a pinned root there is nothing to believe."""
    with pytest.raises(StateError, match="no root has been pinned"):
        DeviceTrust(tmp_path, tenant="main", fetch=world.files().get, clock=world.clock)
    with pytest.raises(UsageError):
        DeviceTrust(
            tmp_path, tenant="snapshot", fetch=world.files().get, clock=world.clock
        )


def test_a_list_of_an_unknown_key(device: Device) -> None:
    """A hub that was broken into cannot make a list itself."""
    forged = device.world.listed(3, "stranger")
    device.served = device.world.forged({"3.main.json": forged})
    assert _refused(device) == "untrusted"
    device.world.publish({"3.main.json": device.world.listed(3)})
    device.world.sign()
    _recovers(device)


def test_targets_of_the_online_key(device: Device) -> None:
    """The hub's key is good for nothing but saying what is current."""
    forged = device.world.targets(2, "hub")
    device.served = device.world.forged({"2.targets.json": forged})
    assert _refused(device) == "untrusted"


def test_a_timestamp_of_an_unknown_key(device: Device) -> None:
    """Whoever sits between hub and device cannot sign a timestamp."""
    other = World()
    device.served = device.world.files() | {
        "timestamp.json": other.files()["timestamp.json"]
    }
    assert _refused(device) == "untrusted"
    _recovers(device)


@pytest.mark.parametrize(
    ("name", "reasons"),
    [
        ("timestamp.json", {"untrusted", "corrupt"}),
        ("2.snapshot.json", {"corrupt"}),
        ("2.main.json", {"corrupt"}),
    ],
)
def test_a_flipped_byte(device: Device, name: str, reasons: set[str]) -> None:
    """One changed byte anywhere is found."""
    content = device.world.files()[name]
    for place in (0, len(content) // 3, len(content) // 2, len(content) - 2):
        changed = bytearray(content)
        changed[place] ^= 1
        device.served = device.world.files() | {name: bytes(changed)}
        assert _refused(device) in reasons
    _recovers(device)


def test_a_replayed_repository(device: Device) -> None:
    """The hub's own files of an hour ago are refused once newer ones were seen."""
    old = device.served
    _recovers(device)
    device.served = old
    with pytest.raises(TrustError) as caught:
        device.trust.refresh()
    assert caught.value.reason == "replayed"
    device.restart()
    with pytest.raises(TrustError) as caught:
        device.trust.refresh()
    assert caught.value.reason == "replayed"
    assert device.trust.target(SECOND_PATH) == SECOND


@pytest.mark.parametrize("role", ["targets", "main"])
def test_a_replayed_list_under_a_new_snapshot(device: Device, role: str) -> None:
    """A hub that was broken into cannot go back to an older list."""
    world = device.world
    world.publish({"2.targets.json": world.targets(2)})
    _recovers(device)
    device.served = world.forged({}, without=f"2.{role}.json")
    with pytest.raises(TrustError) as caught:
        device.trust.refresh()
    assert caught.value.reason == "replayed"
    assert device.trust.target(SECOND_PATH) == SECOND


def test_a_replayed_snapshot_under_a_new_timestamp(device: Device) -> None:
    """A hub that was broken into cannot go back to an older snapshot."""
    _recovers(device)
    newest = {"2.snapshot.json", "2.main.json"}
    files = {k: v for k, v in device.world.files().items() if k not in newest}
    repository = Repository(files)
    repository.sign_online(device.world.keys["hub"], now_ms=device.world.now_ms)
    device.served = repository.files()
    with pytest.raises(TrustError) as caught:
        device.trust.refresh()
    assert caught.value.reason == "replayed"


def test_a_freeze(device: Device) -> None:
    """A hub that stands still is noticed; what runs goes on running."""
    device.served = device.world.files()
    device.world.clock.advance(wall_s=2 * DAY_S)
    assert _refused(device) == "expired"
    device.world.sign()
    _recovers(device)


def test_mixed_and_matched_files(device: Device) -> None:
    """An old list does not pass under a new name."""
    files = device.world.files()
    device.served = files | {"2.main.json": files["1.main.json"]}
    assert _refused(device) == "corrupt"
    device.served = files | {"2.snapshot.json": files["1.snapshot.json"]}
    assert _refused(device) == "corrupt"
    _recovers(device)


@pytest.mark.parametrize(
    "name", ["2.root.json", "timestamp.json", "2.snapshot.json", "2.main.json"]
)
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'{"signed": {}, "signatures": []}',
        b"\xff",
        b"[" * 9999,
    ],
)
def test_garbage(device: Device, name: str, content: bytes) -> None:
    """Rubbish in the place of any file is refused as such."""
    device.served = device.world.files() | {name: content}
    assert _refused(device) == "corrupt"
    _recovers(device)


@pytest.mark.parametrize("name", ["2.root.json", "timestamp.json", "2.snapshot.json"])
@pytest.mark.parametrize("size_bytes", [600_000, 6_000_000])
def test_endless_files(device: Device, name: str, size_bytes: int) -> None:
    """No more is kept of a file than its role may have."""
    if name == "2.snapshot.json":
        size_bytes *= 10
    device.served = device.world.files() | {name: b" " * size_bytes}
    assert _refused(device) == "corrupt"


@pytest.mark.parametrize("name", ["timestamp.json", "2.snapshot.json", "2.main.json"])
def test_a_missing_file(device: Device, name: str) -> None:
    """A hub that lacks a file is a hub to try again later."""
    device.served = {k: v for k, v in device.world.files().items() if k != name}
    with pytest.raises(LinkError, match="cannot be fetched"):
        device.trust.refresh()
    assert device.trust.target(FIRST_PATH) == FIRST
    _recovers(device)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (LinkError("the hub is away", hint="Wait."), LinkError),
        (TrustError("the token is not known", hint="Enrol."), TrustError),
        (ConnectionResetError(), LinkError),
    ],
)
def test_errors_of_the_transport(
    device: Device, error: Exception, expected: type[Exception]
) -> None:
    """Errors of our tree pass through, others mean that the hub was not reached."""
    device.served = device.world.files() | {"timestamp.json": error}
    with pytest.raises(expected):
        device.trust.refresh()
    assert device.trust.target(FIRST_PATH) == FIRST
    _recovers(device)


def test_a_root_rotation(device: Device) -> None:
    """Devices follow to a new root, and from there to the next one after a restart."""
    world = device.world
    world.keys["new"] = make_key()
    world.publish({"2.root.json": world.root(2, "new", "root")})
    _recovers(device)
    device.restart()
    world.publish({"3.root.json": world.root(3, "new")})
    _recovers(device)
    device.restart()
    assert device.trust.target(SECOND_PATH) == SECOND


def test_a_root_that_the_last_one_did_not_sign(device: Device) -> None:
    """A new root of a stranger is refused."""
    root = device.world.root(2, "stranger")
    device.served = device.world.files() | {"2.root.json": root}
    assert _refused(device) == "untrusted"


def test_a_new_root_is_kept_though_the_rest_fails(device: Device) -> None:
    """Keys that a root withdraws stay withdrawn, whatever else the hub holds back."""
    world = device.world
    world.keys["targets"] = make_key()
    root = world.root(2)
    device.served = {"2.root.json": root}
    with pytest.raises(LinkError):
        device.trust.refresh()
    for _ in range(2):
        assert device.trust.target(FIRST_PATH) is None
        device.restart()
    device.served = {k: v for k, v in world.files().items() if k != "2.root.json"}
    with pytest.raises(TrustError) as caught:
        device.trust.refresh()
    assert caught.value.reason == "untrusted"
    world.publish({"2.root.json": root, "2.targets.json": world.targets(2)})
    _recovers(device)


def test_many_rotations_are_followed_step_by_step(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One refresh follows a bounded number of roots; the next one goes on."""
    monkeypatch.setattr(trust_module._CONFIG, "max_root_rotations", 2)
    world = device.world
    for version in range(2, 7):
        key, previous = f"root{version}", f"root{version - 1}"
        world.keys[key] = make_key()
        previous = "root" if version == 2 else previous
        world.publish({f"{version}.root.json": world.root(version, key, previous)})
    device.served = world.files()
    for newest in (3, 5, 6):
        device.trust.refresh()
        trusted = json.loads((device.folder / "trusted.json").read_text())
        roots = [name for name in trusted["files"] if name.endswith(".root.json")]
        assert sorted(roots) == [f"{n}.root.json" for n in range(2, newest + 1)]
        device.restart()


def test_a_clock_at_1970_wakes_nothing_that_has_expired(device: Device) -> None:
    """The time floor, taken from signed metadata, stands in for the clock."""
    world = device.world
    old = world.files()
    world.clock.advance(wall_s=10 * DAY_S)
    world.sign()
    _recovers(device)
    floor_ms = world.now_ms
    world.clock.set_unix_ms(0)
    (device.folder / "trusted.json").unlink()
    device.restart()
    assert device.trust.time_floor_ms == floor_ms
    device.served = old
    with pytest.raises(TrustError) as caught:
        device.trust.refresh()
    assert caught.value.reason == "expired"
    device.served = world.files()
    device.trust.refresh()
    assert device.trust.target(SECOND_PATH) == SECOND


def test_the_fresh_timestamp_says_what_has_expired(
    world: World, tmp_path: Path
) -> None:
    """A first refresh at 1970 believes the timestamp's time, and so no stale list."""
    device = Device(world, tmp_path)
    world.clock.advance(wall_s=91 * DAY_S)
    world.sign()
    device.served = world.files()
    world.clock.set_unix_ms(0)
    with pytest.raises(TrustError, match=r"targets\.json expired") as caught:
        device.trust.refresh()
    assert caught.value.reason == "expired"
    assert device.trust.target(FIRST_PATH) is None
    assert device.trust.time_floor_ms == 0


@pytest.mark.parametrize("unix_ms", [10**13, 10**15, 10**30, -(10**15)])
def test_a_clock_that_is_mad(device: Device, unix_ms: int) -> None:
    """A clock far in the future stops updating, never serving; the floor stays."""
    world = device.world
    now_ms = world.now_ms
    world.clock.set_unix_ms(unix_ms)
    if unix_ms < 0:
        _recovers(device)
        return
    device.served = world.files()
    assert _refused(device) == "expired"
    world.clock.set_unix_ms(now_ms)
    _recovers(device)


def test_an_older_signing_time_is_a_replay(device: Device) -> None:
    """Even a device that lost its metadata knows an old timestamp by the floor."""
    world = device.world
    old = world.files()
    world.clock.advance(wall_s=3600)
    world.sign()
    _recovers(device)
    (device.folder / "trusted.json").unlink()
    device.restart()
    device.served = old
    with pytest.raises(TrustError) as caught:
        device.trust.refresh()
    assert caught.value.reason == "replayed"


@pytest.mark.parametrize("name", ["trusted.json", "time-floor.json"])
@pytest.mark.parametrize("cut", [0, 1, 20, -1])
def test_a_file_that_was_cut_short(device: Device, name: str, cut: int) -> None:
    """A damaged disk costs one refresh, not the device."""
    floor_ms = device.trust.time_floor_ms
    path = device.folder / name
    path.write_bytes(path.read_bytes()[:cut])
    device.restart()
    assert device.trust.time_floor_ms == floor_ms
    assert device.trust.target(FIRST_PATH) in {None, FIRST}
    _recovers(device)


def test_a_damaged_root_is_told(device: Device) -> None:
    """Without its pinned root a device believes nobody, and says what to do."""
    path = device.folder / "root.json"
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(TrustError) as caught:
        device.restart()
    assert caught.value.reason == "corrupt"


def test_a_full_disk(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be written is not trusted either."""

    def refuse(*_: object, **__: object) -> None:
        raise StorageError("the disk is full", hint="Free some space.")

    with monkeypatch.context() as patch:
        patch.setattr(vault_module, "write_files", refuse)
        device.served = device.world.files()
        with pytest.raises(StorageError):
            device.trust.refresh()
    assert device.trust.target(SECOND_PATH) is None

    def scratch(**_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch:
        patch.setattr(trust_module.tempfile, "TemporaryDirectory", scratch)
        with pytest.raises(StorageError):
            device.trust.refresh()
    _recovers(device)


def test_a_refresh_without_news_writes_nothing(device: Device) -> None:
    """A device that asks every minute does not wear out its disk."""
    _recovers(device)
    before = {path: path.stat().st_mtime_ns for path in device.folder.iterdir()}
    device.trust.refresh()
    assert before == {path: path.stat().st_mtime_ns for path in device.folder.iterdir()}


def test_a_list_without_hashes_is_damaged(device: Device) -> None:
    """A blob without a SHA-256 or a size cannot be told from another."""
    bad = blob(b"x").__class__(sha256="md5", size_bytes=1)
    world = device.world
    world.publish({"3.main.json": world.listed(3, **{"main/blobs/x": bad})})
    _recovers(device)
    with pytest.raises(TrustError) as caught:
        device.trust.target("main/blobs/x")
    assert caught.value.reason == "corrupt"


def test_golden_folder_is_read_for_ever(world: World, tmp_path: Path) -> None:
    """What the first version trusted is trusted, and its time floor holds."""
    for name in ("root", "trusted", "time-floor"):
        content = (GOLDEN / f"trust-1-{name}.json").read_bytes()
        (tmp_path / f"{name}.json").write_bytes(content)
    trust = DeviceTrust(
        tmp_path, tenant="main", fetch=world.files().get, clock=world.clock
    )
    assert trust.target(FIRST_PATH) == FIRST
    assert trust.time_floor_ms == 1_767_225_600_000
