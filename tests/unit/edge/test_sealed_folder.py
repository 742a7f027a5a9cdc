from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from skerry.comms.outbox import Outbox
from skerry.core.documents import to_json
from skerry.core.durable import RealDisk
from skerry.core.errors import NewerSchemaError, StorageError, TrustError, UsageError
from skerry.edge.enrolment import DEVICE_SCHEMA, Identity, read_identity
from skerry.edge.sealed_folder import (
    OUTBOX_FILE,
    GivenKey,
    find_key,
    make_key,
    named_key,
    open_vault,
    seal_folder,
)
from skerry.edge.sealed_vault import SealedVault
from skerry.edge.slots import Slots
from skerry.edge.streams.clips import ClipFolder
from skerry.edge.streams.leaving import Clip
from skerry.edge.vault import CLEAR, SEAL_FILE, Vault
from skerry.evolve.trust.at_rest import DeviceKey
from tests.releases import NAME, small_release

GIVEN = GivenKey(key=DeviceKey(b"k" * 32), level="file")
OTHER = GivenKey(key=DeviceKey(b"o" * 32), level="credential")
SECRETS = (
    b"of a kind that nobody runs",
    b"s3cret",
    b"said in the outbox",
    b"skerry.task",
)

CLIP = Clip(content=b"s3cret clip", sha256="c" * 64, pictures=1, seconds=0.0)


def fill(folder: Path, vault: Vault) -> None:
    """Have a gateway's folder: two releases, an identity, a trust, an outbox."""
    slots = Slots(folder, target="any", vault=vault)
    for version in (1, 2):
        release = small_release(version)
        slots.install(release.signed, release.contents)
        slots.switch(release.manifest.id, rollout="r")
        slots.settle(NAME)
    identity = Identity(
        tenant="main",
        device="gw",
        hub="http://127.0.0.1:1",
        api_token="s3cret",  # noqa: S106 - of a test
        mqtt_host="127.0.0.1",
        mqtt_port=1,
        mqtt_username="gw",
        mqtt_password="s3cret",  # noqa: S106 - of a test
    )
    vault.write_file(folder / "device.json", to_json(identity, schema=DEVICE_SCHEMA))
    (folder / "trust").mkdir()
    vault.write_file(folder / "trust" / "root.json", b"s3cret root")
    ClipFolder(folder / "clips", vault=vault).put(CLIP)
    outbox = Outbox(folder / OUTBOX_FILE, cipher=vault.cipher)
    outbox.put("event", {"name": "said in the outbox"}, sent_at_ms=1)
    outbox.close()


def check(folder: Path, vault: Vault) -> None:
    """See that all of it is there."""
    slots = Slots(folder, target="any", vault=vault)
    assert slots.troubles == []
    assert slots.facts(NAME).active == 2
    identity = read_identity(folder, vault)
    assert identity is not None
    assert identity.api_token == "s3cret"  # noqa: S105 - of a test
    assert vault.read(folder / "trust" / "root.json") == b"s3cret root"
    clips = ClipFolder(folder / "clips", vault=vault)
    assert clips.find(CLIP.sha256) == CLIP.content
    outbox = Outbox(folder / OUTBOX_FILE, cipher=vault.cipher)
    (entry,) = outbox.after(0, 9)
    assert entry.body == {"name": "said in the outbox"}
    outbox.close()


def content(folder: Path) -> dict[Path, bytes]:
    """All files and what is in them."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def leaks(folder: Path) -> set[Path]:
    """The files in which something can be read."""
    return {
        path
        for path, lies in content(folder).items()
        if any(secret in lies for secret in SECRETS)
    }


@pytest.fixture
def clear(tmp_path: Path) -> Path:
    """A folder in the clear."""
    folder = tmp_path / "gw"
    folder.mkdir()
    fill(folder, CLEAR)
    return folder


def test_without_a_key_all_stays_as_it_is(clear: Path) -> None:
    """Nothing is sealed, and nothing is written."""
    before = content(clear)
    assert open_vault(clear, None) is CLEAR
    assert content(clear) == before
    assert leaks(clear)


def test_a_new_folder_is_sealed_from_the_start(tmp_path: Path) -> None:
    """Nothing in it can be read, and it opens again with its key alone."""
    vault = open_vault(tmp_path, GIVEN)
    assert vault.level == "file"
    fill(tmp_path, vault)
    assert leaks(tmp_path) == set()
    check(tmp_path, open_vault(tmp_path, GIVEN))


@pytest.mark.parametrize("given", [None, OTHER])
def test_a_copy_without_the_key_is_refused(
    tmp_path: Path, given: GivenKey | None
) -> None:
    """And nothing of it is touched: the key may yet be found."""
    fill(tmp_path, open_vault(tmp_path, GIVEN))
    before = content(tmp_path)
    with pytest.raises(TrustError, match="is sealed") as refused:
        open_vault(tmp_path, given)
    assert "key" in refused.value.hint
    if given:
        with pytest.raises(TrustError):
            seal_folder(tmp_path, given)
    assert content(tmp_path) == before
    # Whoever removes what says so gets no further: no record is made anew.
    (tmp_path / SEAL_FILE).unlink()
    with pytest.raises(TrustError, match="the key is not here"):
        Slots(tmp_path, target="any")
    with pytest.raises(TrustError, match="the key is not here"):
        read_identity(tmp_path)


def test_what_lies_in_the_clear_is_not_believed(clear: Path) -> None:
    """Who can write in the folder could have put it there."""
    with pytest.raises(UsageError, match="is not sealed, and a key is given") as told:
        open_vault(clear, GIVEN)
    assert "skerry gateway seal --folder" in told.value.hint
    assert not (clear / SEAL_FILE).exists()
    assert seal_folder(clear, GIVEN) == 13
    put = small_release(2).contents["model"]
    (clear / "slots" / NAME / "b" / "model.onnx").write_bytes(put)
    (clear / "slots.json").write_bytes(b"{}")
    (clear / "slots-copy.json").write_bytes(b"{}")
    slots = Slots(clear, target="any", vault=open_vault(clear, GIVEN))
    assert slots.facts(NAME).active == 1
    assert len(slots.troubles) >= 3


def test_a_folder_is_sealed_in_place(clear: Path) -> None:
    """Nothing is left in the clear, and doing it again changes nothing."""
    leftover = clear / "slots" / NAME / "a" / ".model.onnx.0.skerry-tmp"
    leftover.write_bytes(SECRETS[0])
    (clear / ".device.json.0.skerry-tmp").write_bytes(SECRETS[1])
    (clear / "outbox.db.damaged-0").write_bytes(SECRETS[2])
    part = clear / "downloads" / NAME / "x.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(SECRETS[0])
    assert leaks(clear)
    assert seal_folder(clear, GIVEN) == 14
    assert leaks(clear) == set()
    assert not leftover.exists()
    assert not part.exists()
    assert (clear / "device.json").stat().st_mode & 0o077 == 0
    check(clear, open_vault(clear, GIVEN))
    assert seal_folder(clear, GIVEN) == 0
    check(clear, open_vault(clear, GIVEN))


def test_a_damaged_outbox_is_sealed_where_it_is_set_aside(clear: Path) -> None:
    """What was said in it may still be read by who looks into the damage."""
    path = clear / OUTBOX_FILE
    path.write_bytes(b"no database" + SECRETS[2])
    seal_folder(clear, GIVEN)
    assert leaks(clear) == set()
    (aside,) = clear.glob(f"{OUTBOX_FILE}.damaged-*")
    assert open_vault(clear, GIVEN).read(aside).endswith(SECRETS[2])


class CutDisk(RealDisk):
    """Loses power at a call."""

    def __init__(self, cut_at: int) -> None:
        self.left = cut_at

    def _count(self) -> None:
        if self.left == 0:
            raise StorageError("the power is cut", hint="")
        self.left -= 1

    def write(self, path: Path, content: bytes) -> None:
        self._count()
        super().write(path, content)

    def replace(self, source: Path, target: Path) -> None:
        self._count()
        super().replace(source, target)

    def remove(self, path: Path) -> None:
        self._count()
        super().remove(path)


def cut_folders(clear: Path) -> Iterator[Path]:
    """Copies of a folder whose sealing was cut off, one a call."""
    for cut_at in itertools.count():
        folder = clear.with_name(f"cut-{cut_at}")
        shutil.copytree(clear, folder)
        try:
            seal_folder(folder, GIVEN, disk=CutDisk(cut_at))
        except StorageError:
            yield folder
        else:
            return


def test_sealing_goes_on_after_a_power_cut(clear: Path) -> None:
    """At each call; until it is done nothing else runs there, with a key or without."""
    states = 0
    for folder in cut_folders(clear):
        states += 1
        if (folder / SEAL_FILE).exists():
            with pytest.raises(TrustError):
                open_vault(folder, None)
            with pytest.raises(UsageError, match="not sealed to its end"):
                open_vault(folder, GIVEN)
            with pytest.raises(TrustError):
                seal_folder(folder, OTHER)
        else:
            check(folder, open_vault(folder, None))
        seal_folder(folder, GIVEN)
        check(folder, open_vault(folder, GIVEN))
        assert leaks(folder) == set()
    assert states > 20


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b'{"schema": "skerry.seal/1", "state": "none", "proof": ""}',
        b'{"schema": "skerry.seal/1", "state": "sealed"}',
        b'{"schema": "skerry.seal/1", "state": "sealed", "proof": "\xc3\xa9"}',
        b'{"schema": "skerry.seal/1", "state": "sealed", "proof": "00"}',
    ],
)
def test_an_edited_seal_is_refused(tmp_path: Path, text: bytes) -> None:
    """As another key is."""
    open_vault(tmp_path, GIVEN)
    (tmp_path / SEAL_FILE).write_bytes(text)
    with pytest.raises(TrustError):
        open_vault(tmp_path, GIVEN)


def test_a_seal_that_says_less_is_refused(tmp_path: Path) -> None:
    """What is proven is the state, too."""
    open_vault(tmp_path, GIVEN)
    path = tmp_path / SEAL_FILE
    path.write_bytes(path.read_bytes().replace(b"sealed", b"begun"))
    with pytest.raises(TrustError, match="not with the key that is given"):
        open_vault(tmp_path, GIVEN)


def test_a_seal_of_a_newer_skerry(tmp_path: Path) -> None:
    """It says what to upgrade."""
    (tmp_path / SEAL_FILE).write_bytes(b'{"schema": "skerry.seal/2"}')
    with pytest.raises(NewerSchemaError):
        open_vault(tmp_path, GIVEN)


def test_a_seal_that_cannot_be_read(tmp_path: Path) -> None:
    """The disk is to blame."""
    (tmp_path / SEAL_FILE).mkdir()
    with pytest.raises(StorageError):
        open_vault(tmp_path, GIVEN)


def test_a_damaged_file_holds_up_the_sealing(clear: Path) -> None:
    """One that is sealed with another key, or spoilt."""
    vault = SealedVault(clear, OTHER.key, level="file")
    vault.write_file(clear / "device.json", b"sealed with another key")
    with pytest.raises(TrustError, match=r"device\.json is sealed, and not with"):
        seal_folder(clear, GIVEN)


class TestKeys:
    """Where the key comes from."""

    def test_a_key_is_made_once(self, tmp_path: Path) -> None:
        """For its owner alone, and never in the folder."""
        folder, path = tmp_path / "gw", tmp_path / "keys" / "gw.key"
        assert make_key(path, folder=folder)
        made = path.read_bytes()
        assert path.stat().st_mode & 0o777 == 0o600
        assert not make_key(path, folder=folder)
        assert path.read_bytes() == made
        with pytest.raises(UsageError, match="lies in the folder"):
            make_key(folder / "x" / ".." / "gw.key", folder=folder)

    def test_no_key_is_made_for_what_is_sealed(self, tmp_path: Path) -> None:
        """It would open nothing."""
        folder = tmp_path / "gw"
        folder.mkdir()
        open_vault(folder, GIVEN)
        with pytest.raises(TrustError, match="the key is not here"):
            make_key(tmp_path / "new.key", folder=folder)
        assert not (tmp_path / "new.key").exists()

    def test_a_key_is_found(self, tmp_path: Path) -> None:
        """As a flag, then in the environment, then as a credential of systemd's."""
        flag, around = tmp_path / "flag.key", tmp_path / "around.key"
        credential = tmp_path / "skerry-key"
        folder = tmp_path / "gw"
        for path in (flag, around, credential):
            make_key(path, folder=folder)
        credential.chmod(0o440)
        environment = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
        found = find_key(None, environment, folder=folder)
        assert found is not None
        assert found.level == "credential"
        environment["SKERRY_SEAL_KEY"] = str(around)
        second = find_key(None, environment, folder=folder)
        third = find_key(flag, environment, folder=folder)
        assert second is not None
        assert third is not None
        assert second.level == third.level == "file"
        proofs = {one.key.derive("x") for one in (found, second, third)}
        assert len(proofs) == 3
        assert named_key(flag, environment) == flag
        assert named_key(None, environment) == around

    @pytest.mark.parametrize(
        "environment",
        [{}, {"CREDENTIALS_DIRECTORY": "/nowhere"}, {"SKERRY_SEAL_KEY": ""}],
    )
    def test_there_may_be_none(
        self, tmp_path: Path, environment: dict[str, str]
    ) -> None:
        """Then nothing is sealed."""
        assert find_key(None, environment, folder=tmp_path) is None

    @pytest.mark.parametrize("text", [b"", b"secret", b"0" * 63, b"0" * 66, b"g" * 64])
    def test_what_is_no_key(self, tmp_path: Path, text: bytes) -> None:
        """It says how to make one."""
        path = tmp_path / "k"
        path.write_bytes(text)
        with pytest.raises(UsageError, match="holds no key") as told:
            find_key(path, {}, folder=tmp_path / "gw")
        assert "openssl rand -hex 32" in told.value.hint

    def test_a_key_that_others_can_read(self, tmp_path: Path) -> None:
        """Is refused, and so are one that is not there and one in the folder."""
        path = tmp_path / "k"
        make_key(path, folder=tmp_path / "gw")
        path.chmod(0o640)
        with pytest.raises(UsageError, match="others may read"):
            find_key(path, os.environ, folder=tmp_path / "gw")
        with pytest.raises(UsageError, match="cannot read"):
            find_key(tmp_path / "none", {}, folder=tmp_path / "gw")
        with pytest.raises(UsageError, match="lies in the folder"):
            find_key(path, {}, folder=tmp_path)
