from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from skerry.app.publish.publisher import Publisher
from skerry.core.clock import FakeClock
from skerry.core.errors import TrustError, UsageError
from skerry.core.release import manifest_path
from skerry.edge.trust import DeviceTrust
from skerry.evolve.trust import Repository, countersign, key_id, make_key, public_key
from tests.publishing import make_parts

DAY_S = 86_400


class Office:
    """A publisher, a hub's repository, a device, and the keys of people elsewhere."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "publisher"
        self.clock = FakeClock()
        self.hub_key = make_key()
        self.ann, self.bea = make_key(), make_key()
        self.publisher = Publisher.create(
            self.folder, hub_key=public_key(self.hub_key), clock=self.clock
        )
        self.repository = Repository()
        root = self.publisher.root
        self.repository.bootstrap(root, now_ms=self.clock.unix_ms())
        self.publish()
        DeviceTrust.pin(folder / "device", root, hashlib.sha256(root).hexdigest())
        self.device = DeviceTrust(
            folder / "device",
            tenant="main",
            fetch=lambda name: self.repository.files().get(name),
            clock=self.clock,
        )

    def publish(self) -> None:
        """Hand the hub what enough have signed."""
        now_ms = self.clock.unix_ms()
        self.repository.accept(self.publisher.metadata(), now_ms=now_ms)
        self.repository.sign_online(self.hub_key, now_ms=now_ms)

    def reopen(self, *keys: bytes) -> None:
        """Go on in the next process."""
        self.publisher = Publisher.open(self.folder, clock=self.clock, keys=keys)

    def signed_elsewhere(self, key: bytes) -> None:
        """Have each draft signed on another machine, and brought back."""
        for path in sorted((self.folder / "drafts").iterdir()):
            self.publisher.take_back(path.name, countersign(path.read_bytes(), key))

    def has(self, version: int) -> bool:
        """Whether the device trusts a release once it has looked."""
        self.device.refresh()
        path = manifest_path(make_parts(version)[0].id, tenant="main")
        return self.device.target(path) is not None

    def keys(self, role: str) -> tuple[str, ...]:
        """The ids of a role's keys."""
        states = {state.role: state for state in self.publisher.roles.states()}
        return states[role].keys


@pytest.fixture
def office(tmp_path: Path) -> Office:
    """All of them at peace."""
    return Office(tmp_path)


def test_two_people_sign_a_release(office: Office) -> None:
    """It waits until the second has signed, on a machine without the publisher."""
    roles = office.publisher.roles
    roles.add("tenant", public_key(office.ann), threshold=2)
    office.publisher.settle()
    assert [state.lacking for state in roles.states()] == [0, 0, 1, 0]
    assert office.publisher.release(*make_parts(1)).lacking == 1
    office.publish()
    assert not office.has(1)

    office.reopen()
    bundle = office.publisher.release(*make_parts(1))  # The same again: still one.
    assert bundle.lacking == 1
    office.signed_elsewhere(office.ann)
    office.publish()
    assert office.has(1)
    assert list(office.publisher.manifests.values()) == [bundle.manifest_sha256]
    assert list((office.folder / "drafts").iterdir()) == []


def test_a_list_that_waits_is_extended(office: Office) -> None:
    """A second release before the signature joins the first; both need it."""
    office.publisher.roles.add("tenant", public_key(office.ann), threshold=2)
    office.publisher.settle()
    office.signed_elsewhere(office.ann)
    office.publisher.settle()
    office.publisher.release(*make_parts(1))
    office.publisher.release(*make_parts(2))
    office.signed_elsewhere(office.ann)
    office.publish()
    assert office.has(1)
    assert office.has(2)


def test_an_offline_root_that_is_due_stops_no_release(office: Office) -> None:
    """Its renewal waits for the stick, what the others sign goes out."""
    root = office.folder / "keys" / "root.pem"
    stick = root.read_bytes()
    root.unlink()
    office.reopen()
    office.clock.advance(wall_s=200 * DAY_S)
    office.publisher.release(*make_parts(1))
    office.publish()
    assert office.has(1)
    assert office.publisher.roles.states()[0].lacking == 1
    office.reopen(stick)
    office.publish()
    assert office.publisher.roles.states()[0].standing.version == 2  # type: ignore[union-attr]
    assert office.has(1)


@pytest.mark.parametrize("role", ["root", "targets", "tenant"])
def test_a_rotated_key_is_replaced(office: Office, role: str) -> None:
    """Devices follow, the old key is gone, and repeating it by its id does nothing."""
    (old,) = office.keys(role)
    new = office.publisher.roles.rotate(role, old[:12])
    office.publisher.settle()
    assert office.keys(role) == (new,)
    assert new != old
    office.reopen()
    assert office.publisher.roles.rotate(role, old[:12]) == old
    office.publisher.settle()
    assert office.keys(role) == (new,)
    office.publisher.release(*make_parts(1))
    office.publish()
    assert office.has(1)


def test_a_rotation_cut_short_uses_the_key_that_it_made(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end between making the key and naming it leaves one key, not two."""
    monkeypatch.setattr(office.publisher.roles, "replace", lambda *_: None)
    made = office.publisher.roles.rotate("tenant")
    office.reopen()
    assert office.publisher.roles.rotate("tenant") == made
    office.publisher.settle()
    assert len(list((office.folder / "keys").iterdir())) == 4


def test_a_lost_root_key_is_revoked_by_another(office: Office) -> None:
    """With one of two, the other is all that it takes."""
    lost = office.keys("root")[0]
    office.publisher.roles.add("root", public_key(office.ann))
    office.publisher.settle()
    (office.folder / "keys" / "root.pem").unlink()
    office.reopen(office.ann)
    office.publisher.roles.revoke("root", lost[:8])
    office.publisher.settle()
    assert office.keys("root") == (key_id(public_key(office.ann)),)
    office.publisher.release(*make_parts(1))
    office.publish()
    assert office.has(1)


def test_what_cannot_be_is_refused(office: Office) -> None:
    """The last key, a key of nobody, a role of nobody, too high a threshold."""
    roles = office.publisher.roles
    with pytest.raises(UsageError, match="only key of root"):
        roles.revoke("root", office.keys("root")[0][:8])
    with pytest.raises(UsageError, match="0 keys of tenant begin"):
        roles.revoke("tenant", "feed")
    with pytest.raises(UsageError, match="no role 'rot'"):
        roles.rotate("rot")
    with pytest.raises(UsageError, match="3 of 2 keys"):
        roles.add("tenant", public_key(office.ann), threshold=3)
    with pytest.raises(UsageError, match="not a public"):
        roles.add("tenant", b"none")
    roles.add("tenant", public_key(office.ann))
    with pytest.raises(UsageError, match="2 keys"):
        roles.rotate("tenant")


def test_a_changed_copy_is_not_taken_back(office: Office) -> None:
    """Only signatures may differ; a file that nobody waits for is named."""
    roles = office.publisher.roles
    roles.add("root", public_key(office.ann), threshold=2)
    roles.add("root", public_key(office.bea), threshold=3)
    office.publisher.settle()
    (draft,) = (office.folder / "drafts").iterdir()
    changed = draft.read_bytes().replace(b'"threshold":3', b'"threshold":1')
    assert changed != draft.read_bytes()
    with pytest.raises(TrustError, match="more than their signatures"):
        office.publisher.take_back(draft.name, changed)
    with pytest.raises(UsageError, match=r"2\.root\.json does"):
        office.publisher.take_back("7.root.json", draft.read_bytes())
    office.publisher.take_back("1.root.json", b"")  # In place already: no fault.
    office.signed_elsewhere(office.ann)
    assert office.publisher.settle() == ()
    office.reopen()
    office.signed_elsewhere(office.bea)
    assert office.publisher.settle() == ("2.root.json",)


def test_an_heir_signs_what_was_released(office: Office, tmp_path: Path) -> None:
    """A new publisher begins with the list of the one whose keys are lost."""
    office.publisher.release(*make_parts(1))
    heir = Publisher.create(
        tmp_path / "heir",
        hub_key=public_key(office.hub_key),
        clock=office.clock,
        heir_of=office.folder,
    )
    assert heir.releases == office.publisher.releases
    assert heir.root != office.publisher.root
