"""Whether a gateway's folder is sealed, with which key, and how it comes to be.

`seal.json` in the folder says that it is sealed, and proves which key it takes: a MAC
of its own text. It is the first file of a folder that begins sealed. A folder that
began in the clear is sealed file by file, each by `core.durable`; `seal.json` says
`begun` from before the first until after the last, and nothing runs in the folder
meanwhile: after a power cut the same command goes on.

A gateway never seals what it finds in the clear by itself. Who can write in the folder
could else have it believe what they put there.
"""

from __future__ import annotations

import contextlib
import hmac
import re
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Literal

from skerry.comms.outbox import Outbox
from skerry.core.documents import from_json, to_json
from skerry.core.durable import (
    PRIVATE_DISK,
    REAL_DISK,
    TEMPORARY_SUFFIX,
    Disk,
    make_folder,
    write_file,
)
from skerry.core.errors import (
    DataError,
    NewerSchemaError,
    StorageError,
    TrustError,
    UsageError,
)
from skerry.core.files import read_file
from skerry.edge.sealed_vault import SealedVault
from skerry.edge.vault import (
    CLEAR,
    DOWNLOADS,
    SEAL_FILE,
    SEALED_MAGIC,
    Level,
    Vault,
    no_key,
)
from skerry.evolve.trust.at_rest import KEY_BYTES, DeviceKey

SEAL_SCHEMA = "skerry.seal/1"
OUTBOX_FILE = "outbox.db"
CREDENTIAL = "skerry-key"
"""The name of the credential that systemd passes on."""

CREDENTIALS_VARIABLE = "CREDENTIALS_DIRECTORY"
KEY_VARIABLE = "SKERRY_SEAL_KEY"

_SEALED_NAMES = ("device.json", "slots.json", "slots-copy.json")
_SEALED_FOLDERS = ("slots", "trust", "clips", DOWNLOADS)
_KEY = re.compile(rb"[0-9a-f]{64}\n?")


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenKey:
    """A key as it was given.

    Attributes:
        key: The key.
        level: Where it comes from.
    """

    key: DeviceKey
    level: Level


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seal:
    """What `seal.json` says.

    Attributes:
        state: Whether all is sealed, or that has only begun.
        proof: The MAC of the state, in hexadecimal digits.
    """

    state: Literal["begun", "sealed"]
    proof: str


def find_key(
    given: Path | None, environment: Mapping[str, str], *, folder: Path
) -> GivenKey | None:
    """Find the key of this device.

    Args:
        given: The file that somebody named, or None.
        environment: The process's: `SKERRY_SEAL_KEY` names a file, else systemd's
            `CREDENTIALS_DIRECTORY` may hold `skerry-key`.
        folder: The gateway's, in which it must not lie.

    Returns:
        None where there is none.

    Raises:
        UsageError: It cannot be read, is no key, or others may read it.
    """
    named = named_key(given, environment)
    if named is not None:
        _check_place(named, folder)
        return GivenKey(key=_read_key(named), level="file")
    credentials = environment.get(CREDENTIALS_VARIABLE)
    credential = Path(credentials) / CREDENTIAL if credentials else None
    if credential is None or not credential.exists():
        return None
    # systemd guards it: its mode shows an access list as rights of the group.
    return GivenKey(key=_parse_key(credential), level="credential")


def named_key(given: Path | None, environment: Mapping[str, str]) -> Path | None:
    """The file of a key that somebody named, on the command line or around it."""
    around = environment.get(KEY_VARIABLE)
    return given or (Path(around) if around else None)


def open_vault(folder: Path, given: GivenKey | None) -> Vault:
    """Open a gateway's folder; one that holds nothing yet is sealed if there is a key.

    Args:
        folder: The folder; nobody else uses it.
        given: The key, or None.

    Raises:
        TrustError: It is sealed with another key, or there is none; nothing is
            changed.
        UsageError: It is not sealed, or not all of it.
        StorageError: The disk refused.
    """
    seal = _read_seal(folder)
    if seal is None and given is None:
        return CLEAR
    if given is None:
        raise no_key(folder)
    if seal is None and ((folder / OUTBOX_FILE).exists() or any(_files(folder))):
        raise UsageError(
            f"{folder} is not sealed, and a key is given",
            hint=_seal_hint(folder) + "; or leave the key out.",
        )
    if seal is None:
        _write_seal(folder, given.key, "sealed", REAL_DISK)
    else:
        _check_key(folder, seal, given.key)
        if seal.state == "begun":
            raise UsageError(
                f"{folder} is not sealed to its end", hint=_seal_hint(folder) + "."
            )
    return SealedVault(folder, given.key, level=given.level)


def seal_folder(folder: Path, given: GivenKey, *, disk: Disk = PRIVATE_DISK) -> int:
    """Seal what lies in a gateway's folder; it goes on where it was cut off.

    Args:
        folder: The folder; nobody else uses it.
        given: The key.
        disk: Where it writes.

    Returns:
        How many files were sealed.

    Raises:
        TrustError: It, or a file in it, is sealed with another key.
        StorageError: The disk refused.
    """
    seal = _read_seal(folder)
    vault = SealedVault(folder, given.key, level=given.level)
    if seal is not None:
        _check_key(folder, seal, given.key)
    if seal is None or seal.state != "begun":
        _write_seal(folder, given.key, "begun", disk)
    if (folder / OUTBOX_FILE).exists():
        # First: one that is damaged is set aside, and is a file like the others then.
        with contextlib.closing(
            Outbox(folder / OUTBOX_FILE, cipher=vault.cipher)
        ) as outbox:
            outbox.seal()
    sealed = sum(_seal_file(path, vault, disk) for path in _files(folder))
    _write_seal(folder, given.key, "sealed", disk)
    return sealed


def make_key(path: Path, *, folder: Path) -> bool:
    """Make the file of a key, unless it is there.

    Args:
        path: Where.
        folder: The gateway's, in which it must not lie.

    Returns:
        Whether it was made.

    Raises:
        UsageError: It would lie in the folder.
        TrustError: The folder is sealed: that takes the key that it was sealed with.
        StorageError: The disk refused.
    """
    _check_place(path, folder)
    if path.exists():
        return False
    if (folder / SEAL_FILE).exists():
        raise no_key(folder)
    make_folder(path.parent)
    write_file(path, secrets.token_hex(KEY_BYTES).encode() + b"\n", disk=PRIVATE_DISK)
    return True


def _check_place(path: Path, folder: Path) -> None:
    if path.resolve().is_relative_to(folder.resolve()):
        raise UsageError(
            f"the key {path} lies in the folder that it seals",
            hint="Keep it elsewhere: who copies the folder must not have it.",
        )


def _read_key(path: Path) -> DeviceKey:
    key = _parse_key(path)
    if path.stat().st_mode & 0o077:
        raise UsageError(
            f"others may read the key {path}", hint=f"Take that away: chmod 600 {path}."
        )
    return key


def _parse_key(path: Path) -> DeviceKey:
    content = read_file(path, largest_bytes=1 << 10)
    if not _KEY.fullmatch(content):
        raise UsageError(
            f"{path} holds no key, expected {2 * KEY_BYTES} hexadecimal digits",
            hint=f"Make one: openssl rand -hex {KEY_BYTES}.",
        )
    return DeviceKey(bytes.fromhex(content.decode()))


def _read_seal(folder: Path) -> _Seal | None:
    path = folder / SEAL_FILE
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageError(
            f"cannot read {path}: {error.strerror or error}",
            hint="Run the gateway as the user that owns the folder.",
        ) from error
    try:
        return from_json(_Seal, content, schema=SEAL_SCHEMA, name=str(path))
    except NewerSchemaError:
        raise
    except DataError as error:
        raise TrustError(
            error.what, hint="Remove it and seal the folder again with the same key."
        ) from error


def _write_seal(
    folder: Path, key: DeviceKey, state: Literal["begun", "sealed"], disk: Disk
) -> None:
    seal = _Seal(state=state, proof=_proof(key, state))
    write_file(folder / SEAL_FILE, to_json(seal, schema=SEAL_SCHEMA), disk=disk)


def _check_key(folder: Path, seal: _Seal, key: DeviceKey) -> None:
    said = seal.proof.encode(errors="replace")
    if not hmac.compare_digest(_proof(key, seal.state).encode(), said):
        raise TrustError(
            f"{folder} is sealed, and not with the key that is given",
            hint="Give the key that it was sealed with, or enrol this device anew in "
            "another folder. What is here has been left as it is.",
        )


def _proof(key: DeviceKey, state: str) -> str:
    text = f"{SEAL_SCHEMA} {state}".encode()
    return hmac.new(key.derive("seal"), text, sha256).hexdigest()


def _files(folder: Path) -> Iterator[Path]:
    """What is sealed of a folder, apart from the outbox."""
    for name in _SEALED_NAMES:
        if (folder / name).is_file():
            yield folder / name
    for pattern in (f".*{TEMPORARY_SUFFIX}", f"{OUTBOX_FILE}.damaged-*"):
        yield from sorted(folder.glob(pattern))
    for name in _SEALED_FOLDERS:
        for path in sorted((folder / name).rglob("*")):
            if path.is_file() and not path.is_symlink():
                yield path


def _seal_file(path: Path, vault: SealedVault, disk: Disk) -> bool:
    """Seal one file unless it is; a download is fetched again."""
    if path.name.endswith(TEMPORARY_SUFFIX) or path.parent.parent.name == DOWNLOADS:
        disk.remove(path)
        return False
    with path.open("rb") as file:
        head = file.read(len(SEALED_MAGIC))
    if head != SEALED_MAGIC:
        vault.write_files(path.parent, {path.name: CLEAR.pieces(path)}, disk=disk)
        return True
    try:
        vault.open(path).close()
    except DataError as error:
        raise TrustError(
            f"{path} is sealed, and not with the key that is given, or damaged",
            hint="Give the key that it was sealed with. If it is damaged, remove it.",
        ) from error
    return False


def _seal_hint(folder: Path) -> str:
    return f"Seal it: skerry gateway seal --folder {folder}"
