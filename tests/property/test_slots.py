from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from skerry.core.durable import TEMPORARY_SUFFIX
from skerry.edge import sealing
from skerry.edge.sealed_vault import SealedVault
from skerry.edge.slots import Slots
from skerry.edge.vault import CLEAR, Vault
from skerry.evolve.trust.at_rest import DeviceKey
from skerry.testing import PowerCut, SimulatedDisk
from tests.releases import NAME, SmallRelease, small_release

Update = Callable[[Slots, SmallRelease], None]
Open = Callable[[Path], Vault]


def _update(slots: Slots, release: SmallRelease) -> None:
    slots.install(release.signed, release.contents)
    slots.switch(release.manifest.id, rollout="r3")
    slots.settle(NAME)


def _update_and_roll_back(slots: Slots, release: SmallRelease) -> None:
    slots.install(release.signed, release.contents)
    slots.switch(release.manifest.id, rollout="r3")
    slots.strike(NAME)
    slots.roll_back(NAME, keep=False, refused=None)


def _undo(slots: Slots, release: SmallRelease) -> None:  # noqa: ARG001 - of one kind
    slots.switch(small_release(1).manifest.id, rollout="undo")
    slots.settle(NAME)


def _clear(folder: Path) -> Vault:  # noqa: ARG001 - of one kind
    return CLEAR


def _sealed(folder: Path) -> Vault:
    return SealedVault(folder, DeviceKey(b"k" * 32), level="file")


@pytest.mark.parametrize("update", [_update, _update_and_roll_back, _undo])
@pytest.mark.parametrize("vault", [_clear, _sealed])
def test_a_power_cut_leaves_a_record_of_whole_files(
    tmp_path: Path, update: Update, vault: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At any call, and whatever of it reached the disk: old or new, never neither."""
    # Without chance each cut finds the same bytes: then equal states are found out.
    monkeypatch.setattr(sealing.secrets, "token_bytes", bytes)
    base = tmp_path / "base"
    slots = Slots(base, target="any", vault=vault(base))
    for version in (1, 2):
        _update(slots, small_release(version))
    before = {path: path.read_bytes() for path in base.rglob("*") if path.is_file()}
    seen: set[int | None] = set()
    for number, files in enumerate(_after_cuts(base, before, update, vault)):
        folder = tmp_path / str(number)
        for path, content in files.items():
            place = folder / path.relative_to(base)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
        found = Slots(folder, target="any", vault=vault(folder))
        assert found.troubles == []
        assert found.facts(NAME).active is not None
        assert found.active(NAME) is not None
        seen.add(found.facts(NAME).active)
    assert seen == ({1, 2} if update is _undo else {2, 3})


def _after_cuts(
    base: Path, before: dict[Path, bytes], update: Update, vault: Open
) -> Iterator[dict[Path, bytes]]:
    """What may lie on the disk after a cut at each call, each state once."""
    known = set()
    make = functools.partial(SimulatedDisk, before)
    for call in itertools.count():
        disk = make(cut_at=call)
        try:
            slots = Slots(base, target="any", disk=disk, vault=vault(base))
            update(slots, small_release(3))
        except PowerCut:
            is_cut = True
        else:
            is_cut = False
        for state in disk.after_power_cut():
            files = {
                path: content
                for path, content in state.items()
                if not path.name.endswith(TEMPORARY_SUFFIX)
            }
            key = frozenset(files.items())
            if key not in known:
                known.add(key)
                yield files
        if not is_cut:
            return
