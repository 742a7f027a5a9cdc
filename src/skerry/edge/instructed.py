"""Which instructions a device has taken: the last it was told, and by whom.

The rule of Uptane's director (Uptane Standard 2.1.0, section 5.4.4.3): what was signed
before the last instructions that were accepted is a replay, across restarts too. The
time of signing counts, and not the version of the shadow: a hub that was restored from
a backup counts from a lower version, and signs later. New online keys in the root begin
a new count, as for timestamps (TUF specification, section 5.3.11): whoever held the old
ones cannot have signed too far into the future for good.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skerry.core.documents import from_json, to_json
from skerry.core.errors import DataError, TrustError
from skerry.core.release import Reason
from skerry.edge.vault import CLEAR, Vault
from skerry.evolve.trust import as_date, online_keys, verify_instructions

log = logging.getLogger(__name__)

INSTRUCTED_SCHEMA = "skerry.instructed/1"

_FILE = "instructed.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Instructed:
    """The last instructions that were accepted.

    Attributes:
        at_ms: When they were signed, milliseconds since 1970; 0 before the first.
        version: The version of the shadow.
        keys: The ids of the keys that the root allowed to sign them.
    """

    at_ms: int = 0
    version: int = 0
    keys: tuple[str, ...] = ()


class Instructed:
    """What a device has been told, kept in a folder.

    Args:
        folder: Where.
        tenant: Whose device it is.
        accepts_unsigned: Whether it obeys a hub that signs nothing, until the first
            that does.
        vault: Keeps the file.
    """

    def __init__(
        self,
        folder: Path,
        *,
        tenant: str,
        accepts_unsigned: bool,
        vault: Vault = CLEAR,
    ) -> None:
        self._path = folder / _FILE
        self._vault = vault
        self._tenant = tenant
        self._accepts_unsigned = accepts_unsigned
        self._last = self._read()

    def accept(self, root: bytes, device: str, body: Mapping[str, Any]) -> bool:
        """Accept what a device is told, or refuse it.

        Args:
            root: The newest root that the device trusts.
            device: Its name.
            body: The message's body.

        Returns:
            Whether it is signed; its version can be lower than the last one's then,
            after a hub has been restored.

        Raises:
            TrustError: `untrusted` (unsigned, for another device, or by somebody
                else), `replayed` or `corrupt`.
            StorageError: The disk refused.
        """
        said = verify_instructions(root, body, tenant=self._tenant, device=device)
        if said is None:
            self._check_unsigned()
            return False
        keys = online_keys(root)
        last = self._last if self._last.keys == keys else _Instructed()
        if (said.at_ms, said.version) < (last.at_ms, last.version):
            raise TrustError(
                f"what the hub says was signed at {as_date(said.at_ms)}, it has said "
                f"something at {as_date(last.at_ms)}",
                hint="Somebody replays old messages, or the hub's clock went back.",
                reason=Reason.REPLAYED.value,
            )
        new = _Instructed(at_ms=said.at_ms, version=said.version, keys=keys)
        # The same once more needs no flash: replayed, it would say the same.
        if (last.version, last.keys) != (new.version, new.keys):
            self._vault.write_file(self._path, to_json(new, schema=INSTRUCTED_SCHEMA))
        self._last = new
        return True

    def _check_unsigned(self) -> None:
        if self._last.at_ms:
            raise TrustError(
                "what the hub says is not signed, and it has signed before",
                hint="Somebody else speaks for the hub, or an older one was started.",
            )
        if not self._accepts_unsigned:
            raise TrustError(
                "what the hub says is not signed",
                hint="Upgrade the hub, or start the gateway with --accept-unsigned.",
            )

    def _read(self) -> _Instructed:
        try:
            content = self._vault.read(self._path)
            return from_json(
                _Instructed, content, schema=INSTRUCTED_SCHEMA, name=self._path.name
            )
        except FileNotFoundError:
            return _Instructed()
        except (OSError, DataError) as error:
            # What is replayed to it now is at least signed, and for this device.
            log.warning("trust.instructed_lost", extra={"what": str(error)})
            return _Instructed(at_ms=1)
