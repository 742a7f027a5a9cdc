from __future__ import annotations

import json

import pytest

from skerry.core.errors import StateError, TrustError, UsageError
from skerry.evolve.trust import (
    Repository,
    TrustedSet,
    check_tenant,
    make_key,
    public_key,
    read_listing,
    sign_root,
    sign_tenant,
    split_name,
)
from tests.trusting import DAY_S, FIRST, FIRST_PATH, SECOND, SECOND_PATH, World, blob


@pytest.fixture
def world() -> World:
    """A hub with one publication."""
    return World()


def _refused(world: World, files: dict[str, bytes]) -> str:
    """The reason for which the hub refuses files; it must keep what it had."""
    before = world.files()
    with pytest.raises(TrustError) as caught:
        world.repository.accept(files, now_ms=world.now_ms)
    assert world.files() == before
    assert caught.value.hint
    return caught.value.reason


def test_a_publication_is_served_under_consistent_names(world: World) -> None:
    """Each version has a name of its own; the timestamp is put in place last."""
    assert list(world.files()) == [
        "1.root.json",
        "1.main.json",
        "1.targets.json",
        "1.snapshot.json",
        "timestamp.json",
    ]
    world.publish({"2.main.json": world.listed(2)})
    assert [*world.files()][-3:] == [
        "1.snapshot.json",
        "2.snapshot.json",
        "timestamp.json",
    ]
    assert world.repository.root == world.files()["1.root.json"]


def test_a_hub_goes_on_where_its_files_end(world: World) -> None:
    """A repository read back from its files takes the next publication."""
    files = world.files() | {".timestamp.json.0.skerry-tmp": b"half", "note": b""}
    world.repository = Repository(files)
    world.publish({"2.main.json": world.listed(2)})
    assert "2.snapshot.json" in world.files()
    assert "note" not in world.files()


def test_publishing_again_changes_nothing(world: World) -> None:
    """Files that are here already are no fault, and not signed anew as a snapshot."""
    before = world.files()
    world.publish({name: before[name] for name in ("1.root.json", "1.main.json")})
    after = world.files()
    assert before.pop("timestamp.json") != after.pop("timestamp.json")
    assert before == after


def test_a_publication_must_be_signed_by_whom_it_must(world: World) -> None:
    """Neither a stranger nor the hub itself can make a list."""
    assert _refused(world, {"2.main.json": world.listed(2, "stranger")}) == "untrusted"
    assert _refused(world, {"2.main.json": world.listed(2, "hub")}) == "untrusted"
    assert _refused(world, {"2.targets.json": world.targets(2, "hub")}) == "untrusted"
    other = {"1.other.json": world.listed(1)}
    assert _refused(world, other) == "untrusted"


def test_a_publication_is_taken_whole_or_not_at_all(world: World) -> None:
    """One bad file among good ones leaves the hub as it was."""
    files = {
        "2.targets.json": world.targets(2),
        "2.main.json": world.listed(2, "stranger"),
    }
    assert _refused(world, files) == "untrusted"


def test_versions_only_grow(world: World) -> None:
    """An older version, and another file of the same version, are replays."""
    world.publish({"2.main.json": world.listed(2)})
    world.publish({"3.main.json": world.listed(3)})
    world.publish({"4.main.json": world.listed(4)})
    assert _refused(world, {"1.main.json": world.listed(1)}) == "replayed"
    changed = world.listed(4, **{"main/blobs/x": blob(b"x")})
    assert _refused(world, {"4.main.json": changed}) == "replayed"
    assert _refused(world, {"5.main.json": world.listed(6)}) == "corrupt"
    assert not {"1.main.json", "2.main.json"} & set(world.files())


def test_what_has_expired_is_not_taken(world: World) -> None:
    """A list that was signed too long ago is refused, and so is a root."""
    listed, root = world.listed(2), world.root(2)
    world.clock.advance(wall_s=91 * DAY_S)
    assert _refused(world, {"2.main.json": listed}) == "expired"
    world.clock.advance(wall_s=300 * DAY_S)
    assert _refused(world, {"2.root.json": root}) == "expired"
    with pytest.raises(TrustError, match="expired"):
        Repository().bootstrap(root, now_ms=world.now_ms)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "main.json",
        "0.main.json",
        "../1.main.json",
        "1.timestamp.json",
        "9.snapshot.json",
    ],
)
def test_only_a_publishers_files_are_taken(world: World, name: str) -> None:
    """The hub's own files, and names that are none, cannot be published."""
    assert _refused(world, {name: world.listed(2)}) == "corrupt"


def test_a_publication_is_bounded(world: World) -> None:
    """Neither many files nor a large one is read."""
    many = {f"{n}.main.json": b"{}" for n in range(2, 70)}
    assert _refused(world, many) == "corrupt"
    assert _refused(world, {"2.main.json": b" " * 5_000_001}) == "corrupt"
    assert _refused(world, {"2.root.json": b" " * 512_001}) == "corrupt"


def test_roots_follow_each_other(world: World) -> None:
    """A new root key is trusted where the old one signed for it, and only then."""
    assert _refused(world, {"2.root.json": world.root(2, "stranger")}) == "untrusted"
    assert _refused(world, {"3.root.json": world.root(3)}) == "untrusted"
    world.publish({"2.root.json": world.root(2, "stranger", "root")})
    assert _refused(world, {"3.root.json": world.root(3, "root")}) == "untrusted"
    assert {"1.root.json", "2.root.json"} <= set(world.files())


def test_a_root_that_withdraws_a_key_needs_what_is_signed_anew(world: World) -> None:
    """Targets of a withdrawn key do not stay; new ones come in the same publication."""
    world.keys["targets"] = make_key()
    assert _refused(world, {"2.root.json": world.root(2)}) == "untrusted"
    world.publish({"2.root.json": world.root(2), "2.targets.json": world.targets(2)})
    assert "2.targets.json" in world.files()


def test_a_first_root_is_trusted_once(world: World) -> None:
    """The same root again is no fault; another one is."""
    world.repository.bootstrap(world.files()["1.root.json"], now_ms=world.now_ms)
    with pytest.raises(TrustError, match="another root"):
        world.repository.bootstrap(World().root(), now_ms=world.now_ms)


def test_the_first_root_signs_itself() -> None:
    """A root that its own key did not sign is none."""
    world = World()
    document = json.loads(world.root())
    document["signed"]["x"] = 1
    for root in (json.dumps(document).encode(), b"", b"[]", world.targets(1)):
        with pytest.raises(TrustError):
            Repository().bootstrap(root, now_ms=world.now_ms)


def test_nothing_can_be_published_before_a_root() -> None:
    """A hub without a root believes nobody, and signs nothing."""
    world = World()
    repository = Repository()
    with pytest.raises(TrustError, match="no root"):
        repository.accept({"1.targets.json": world.targets(1)}, now_ms=0)
    with pytest.raises(StateError):
        repository.sign_online(world.keys["hub"], now_ms=0)
    assert repository.root is None
    repository.bootstrap(world.root(), now_ms=world.now_ms)
    with pytest.raises(TrustError, match="no targets"):
        repository.accept({"1.main.json": world.listed(1)}, now_ms=world.now_ms)


def test_only_the_key_that_the_root_names_signs_online(world: World) -> None:
    """A hub whose key is not in the root says so instead of serving rubbish."""
    before = world.files()
    with pytest.raises(TrustError, match="hub's key"):
        world.repository.sign_online(world.keys["stranger"], now_ms=world.now_ms)
    assert world.files() == before


def test_online_metadata_is_renewed_in_time(world: World) -> None:
    """The timestamp is due after half a day, the snapshot after half a week."""
    assert not world.repository.is_due(world.now_ms)
    world.clock.advance(wall_s=0.6 * DAY_S)
    assert world.repository.is_due(world.now_ms)
    world.sign()
    assert not world.repository.is_due(world.now_ms)
    assert "2.snapshot.json" not in world.files()
    world.clock.advance(wall_s=3.5 * DAY_S)
    world.sign()
    assert "2.snapshot.json" in world.files()
    assert not Repository().is_due(world.now_ms)


def test_the_hubs_clock_may_go_back(world: World) -> None:
    """The signing time in the timestamp never does."""
    signed_at_ms = world.now_ms
    world.clock.set_unix_ms(0)
    world.sign()
    timestamp = json.loads(world.files()["timestamp.json"])
    assert timestamp["signed"]["x-skerry-signed-at-ms"] == signed_at_ms


def test_a_trusted_set_finds_what_its_tenant_lists(world: World) -> None:
    """A path is found where it is the tenant's and listed, with its size and hash."""
    stray = {"other/blobs/x": blob(b"x"), "main/x": blob(b"x")}
    world.publish({"2.main.json": world.listed(2, **stray)})
    files = world.files()
    trusted = TrustedSet(
        {1: files["1.root.json"]},
        {
            "timestamp.json": files["timestamp.json"],
            "snapshot.json": files["2.snapshot.json"],
            "targets.json": files["1.targets.json"],
            "main.json": files["2.main.json"],
        },
        tenant="main",
    )
    assert trusted.find(FIRST_PATH) == FIRST
    assert trusted.find(SECOND_PATH) == SECOND
    assert trusted.signed_at_ms == world.now_ms
    for path in ("main/blobs/none", *stray, "", "../main/blobs/x"):
        assert trusted.find(path) is None


def test_a_listing_is_read_back(world: World) -> None:
    """What was signed is read: version, blobs, tenants, and when it is due."""
    listed = read_listing(world.listed(2), now_ms=world.now_ms, name="x")
    assert listed.version == 2
    assert listed.blobs == {FIRST_PATH: FIRST, SECOND_PATH: SECOND}
    assert not listed.is_due
    later_ms = world.now_ms + 46 * DAY_S * 1000
    targets = read_listing(world.targets(3), now_ms=later_ms, name="x")
    assert targets.tenants == ("main",)
    assert targets.is_due


def test_names_are_split() -> None:
    """Only a version and a role make a name."""
    assert split_name("12.main-2.json") == ("main-2", 12)
    for name in (
        "timestamp.json",
        "0.main.json",
        "1.Main.json",
        "1.a.json.b",
        "1..json",
    ):
        assert split_name(name) is None


def test_a_tenant_cannot_have_the_name_of_a_role() -> None:
    """A tenant called `snapshot` would be taken for TUF's own file."""
    assert check_tenant("main") == "main"
    for name in ("root", "targets", "snapshot", "timestamp", "Main", ""):
        with pytest.raises(UsageError):
            check_tenant(name)


def test_what_is_no_key_is_refused_without_being_quoted() -> None:
    """An error about a key does not show the key."""
    secret = b"-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n"
    rsa = b"-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n"
    key = make_key()
    for private, public in ((secret, public_key(key)), (key, rsa), (key, key)):
        with pytest.raises(UsageError) as caught:
            sign_root(root_key=private, targets_key=public, online_key=public, now_ms=0)
        assert "c2VjcmV0" not in str(caught.value)
    with pytest.raises(UsageError):
        sign_tenant(key=public_key(key), blobs={}, now_ms=0)
