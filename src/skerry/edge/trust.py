"""What a device believes: the client side of The Update Framework (TUF).

The device pins a root at enrolment. Each refresh runs tuf's own client workflow (TUF
specification 1.0.31, section 5) in a scratch folder, on what was trusted before; only
when all of it held, and held at our own idea of the time, does the result replace what
was trusted, in one file, durably. A refresh that fails changes nothing but the root: a
verified newer root is kept whatever follows, for the keys that it withdraws may be why
the rest fails.

Time is the clock's, but never less than the time floor: the latest signing time in a
timestamp that was accepted. A clock that reads 1970 after a power cut brings no expired
metadata back to life. The floor can not be pushed past what the publisher signed, as
everything must be unexpired at it; and it falls back to the time at which the publisher
signed the root when that names new online keys, for the old ones may have lied.

This is the door to `tuf.ngclient`.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from skerry.core import durable
from skerry.core.clock import Clock
from skerry.core.documents import from_json, to_json
from skerry.core.errors import (
    DataError,
    LinkError,
    MissingExtraError,
    SkerryError,
    StateError,
    TrustError,
)
from skerry.core.release import Blob, Reason
from skerry.edge.instructed import Instructed
from skerry.edge.vault import CLEAR, Vault
from skerry.evolve.trust import (
    LARGEST_BYTES,
    LARGEST_TARGETS_BYTES,
    TrustedSet,
    as_date,
    check_tenant,
    online_keys,
    root_signed_at_ms,
    root_version,
    split_name,
    trust_errors,
    verify_roots,
)

try:
    from tuf.api.exceptions import (
        DownloadError,
        DownloadHTTPError,
        DownloadLengthMismatchError,
    )
    from tuf.ngclient import FetcherInterface, Updater, UpdaterConfig
except ImportError as error:
    raise MissingExtraError(error.name or "tuf", extra="gateway") from error

log = logging.getLogger(__name__)

TRUSTED_SCHEMA = "skerry.trusted/1"
TIME_FLOOR_SCHEMA = "skerry.time-floor/1"

MOST_ROOT_ROTATIONS = 32
"""Most new roots that one refresh follows; the next one goes on from there."""

_PINNED = "root.json"
_TRUSTED = "trusted.json"
_TIME_FLOOR = "time-floor.json"
_LARGEST_TRUSTED_BYTES = 1 << 26
_LATEST_FLOOR_MS = 253_402_300_799_000

_URL = "skerry:///"  # only a prefix to take off again: tuf builds names as URLs
_CONFIG = UpdaterConfig(
    max_root_rotations=MOST_ROOT_ROTATIONS,
    max_delegations=4,
    root_max_length=LARGEST_BYTES["root"],
    timestamp_max_length=LARGEST_BYTES["timestamp"],
    snapshot_max_length=LARGEST_BYTES["snapshot"],
    targets_max_length=LARGEST_TARGETS_BYTES,
)

Fetch = Callable[[str], bytes | None]
"""Gets a metadata file by name: its content, or None where there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trusted:
    """The metadata of the last refresh that held.

    Attributes:
        files: Text by name: `2.root.json` and newer roots, and the other roles as
            `timestamp.json`.
    """

    files: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class _TimeFloor:
    """The time before which it cannot be.

    Attributes:
        unix_ms: That time, milliseconds since 1970.
        keys: The ids of the online keys that said so; empty where nobody wrote it down.
    """

    unix_ms: int
    keys: tuple[str, ...] = ()


class DeviceTrust:
    """What a device believes, kept in a folder of its own.

    Args:
        folder: Where `pin` has put the root.
        tenant: Whose device it is.
        fetch: Gets a metadata file by name (`timestamp.json`, `2.root.json`), at most
            5 MB of it; it may raise `LinkError`.
        clock: What time it is, as far as this machine knows.
        accepts_unsigned: Whether to obey a hub of before instructions were signed;
            the first that signs ends that.
        vault: Keeps the files.

    Raises:
        StateError: No root has been pinned in this folder.
        UsageError: The tenant's name cannot be one.
        TrustError: The pinned root is damaged.
    """

    def __init__(
        self,
        folder: Path,
        *,
        tenant: str,
        fetch: Fetch,
        clock: Clock,
        accepts_unsigned: bool = False,
        vault: Vault = CLEAR,
    ) -> None:
        self._folder = folder
        self._vault = vault
        self._tenant = check_tenant(tenant)
        roles = ("timestamp", "snapshot", "targets", tenant)
        self._names = tuple(f"{role}.json" for role in roles)
        self._fetch = fetch
        self._clock = clock
        self._pinned = _read_pinned(folder, vault)
        self._first = root_version(self._pinned)
        self._roots, self._files = self._read_trusted()
        self._set = self._verify(self._roots, self._files)
        self._floor_ms = self._read_floor()
        self._floor_keys = self._online
        self._instructed = Instructed(
            folder, tenant=tenant, accepts_unsigned=accepts_unsigned, vault=vault
        )

    @classmethod
    def pin(
        cls, folder: Path, root: bytes, root_sha256: str, *, vault: Vault = CLEAR
    ) -> None:
        """Trust a root from now on; whatever was trusted before is forgotten.

        The time floor stays: time does not go back with a new enrolment.

        Args:
            folder: Where to keep what is trusted; made where it is not there.
            root: The root's file as the hub sent it.
            root_sha256: Its hash as the enrolment token says.
            vault: Keeps the files.

        Raises:
            TrustError: It has another hash, or is not a root.
            StorageError: The disk refused.
        """
        got = hashlib.sha256(root).hexdigest()
        if not hmac.compare_digest(got.encode(), root_sha256.encode()):
            raise TrustError(
                f"the hub's root has the hash {got[:12]}…, the enrolment token says "
                f"{root_sha256[:12]}…",
                hint="Ask for a new token; this hub may not be the one you meant.",
                reason=Reason.UNTRUSTED.value,
            )
        root_version(root)
        durable.make_folder(folder)
        trusted = to_json(_Trusted(), schema=TRUSTED_SCHEMA)
        vault.write_files(folder, {_TRUSTED: trusted, _PINNED: root})

    @property
    def time_floor_ms(self) -> int:
        """The time before which it cannot be, milliseconds since 1970; 0 at first."""
        return self._floor_ms

    def refresh(self) -> None:
        """Fetch and verify the newest metadata; it blocks while it fetches.

        Raises:
            TrustError: What the hub serves must not be believed: its reason is
                `untrusted`, `replayed`, `expired` or `corrupt`.
            LinkError: The hub cannot be reached, or lacks a file.
            StorageError: The disk refused.
        """
        floor_ms = self._floor_ms
        try:
            self._refresh()
        except TrustError:
            if self._floor_ms >= floor_ms:
                raise
            # New online keys have taken back what the old ones said of the time.
            self._refresh()

    def _refresh(self) -> None:
        with (
            durable.storage_errors(self._folder),
            tempfile.TemporaryDirectory(prefix="skerry-trust-") as scratch,
        ):
            folder = Path(scratch)
            self._fill(folder)
            try:
                self._update(folder)
                roots, files = self._take(folder)
                fresh = TrustedSet(roots, files, tenant=self._tenant)
                floor_ms = self._check_times(fresh)
            except SkerryError as error:
                self._keep_roots(folder)
                reason = getattr(error, "reason", error.code)
                log.warning("trust.refused", extra={"reason": reason})
                raise
        self._write(roots, files, floor_ms)
        self._set = fresh

    def target(self, path: str) -> Blob | None:
        """What the tenant's trusted list says of a path; nothing is fetched.

        Args:
            path: A TUF target path, such as `core.release.manifest_path` gives.

        Returns:
            Its hash and size, or None where the list does not name it, another tenant
            owns it, or nothing has been trusted yet.

        Raises:
            TrustError: The list is damaged there.
        """
        return self._set.find(path) if self._set else None

    def accept(self, device: str, body: Mapping[str, Any]) -> bool:
        """Accept what the hub tells a device to run; see `Instructed.accept`."""
        return self._instructed.accept(self._roots[max(self._roots)], device, body)

    def _now_ms(self) -> int:
        return max(self._clock.unix_ms(), self._floor_ms)

    def _update(self, folder: Path) -> None:
        with _refresh_errors():
            updater = Updater(
                str(folder),
                _URL,
                fetcher=_Fetcher(self._fetch),
                config=_CONFIG,
                # Not the pinned one: tuf counts its rotations from here.
                bootstrap=self._roots[max(self._roots)],
            )
            # tuf judges by the system's clock, and offers no other way to set the time.
            # Were the attribute to go away, it would only be stricter than we are.
            trusted = updater._trusted_set  # noqa: SLF001
            trusted.reference_time = as_date(self._now_ms())
            updater.refresh()
            # A path of the tenant makes tuf fetch and verify the tenant's role.
            updater.get_targetinfo(f"{self._tenant}/blobs/none")

    def _check_times(self, fresh: TrustedSet) -> int:
        """Check the fresh set at our own time; returns the new time floor.

        tuf has done so by the old floor: the fresh timestamp may know better.
        """
        signed_at_ms = fresh.signed_at_ms
        if signed_at_ms < self._floor_ms:
            raise TrustError(
                f"the hub's timestamp was signed at {as_date(signed_at_ms)}, one of "
                f"{as_date(self._floor_ms)} was accepted before",
                hint="Somebody replays old metadata, or the hub was restored.",
                reason=Reason.REPLAYED.value,
            )
        fresh.check_times(max(self._now_ms(), signed_at_ms))
        return signed_at_ms

    def _fill(self, folder: Path) -> None:
        """Lay out what is trusted as tuf keeps it; it begins with the root itself."""
        for name, content in self._files.items():
            (folder / name).write_bytes(content)

    def _take(self, folder: Path) -> tuple[dict[int, bytes], dict[str, bytes]]:
        """Read what tuf has verified."""
        files = {
            name: (folder / name).read_bytes()
            for name in self._names
            if (folder / name).is_file()
        }
        return self._take_roots(folder), files

    def _take_roots(self, folder: Path) -> dict[int, bytes]:
        found = dict(self._roots)
        for path in (folder / "root_history").glob("*.root.json"):
            role, version = split_name(path.name) or ("", 0)
            if role == "root":
                found.setdefault(version, path.read_bytes())
        return dict(sorted(found.items()))

    def _keep_roots(self, folder: Path) -> None:
        """Keep the newer roots of a refresh that failed later on."""
        roots = self._take_roots(folder)
        if len(roots) <= len(self._roots):
            return
        try:
            verify_roots(roots)
        except TrustError:
            return
        self._write(roots, self._files, self._floor_ms)
        self._set = self._verify(roots, self._files)
        self._floor_ms = self._fallen(self._floor_ms, self._floor_keys)

    def _write(
        self, roots: dict[int, bytes], files: dict[str, bytes], floor_ms: int
    ) -> None:
        newer = {f"{v}.root.json": root for v, root in roots.items() if v > self._first}
        text = {name: content.decode() for name, content in (newer | files).items()}
        contents: dict[str, bytes | Iterable[bytes]] = {}
        keys = online_keys(roots[max(roots)])
        if (roots, files) != (self._roots, self._files):
            contents[_TRUSTED] = to_json(_Trusted(files=text), schema=TRUSTED_SCHEMA)
        if floor_ms != self._floor_ms:
            floor = _TimeFloor(unix_ms=floor_ms, keys=keys)
            self._floor_keys = keys
            contents[_TIME_FLOOR] = to_json(floor, schema=TIME_FLOOR_SCHEMA)
        if contents:
            self._vault.write_files(self._folder, contents)
        self._roots, self._files, self._floor_ms = roots, files, floor_ms

    def _verify(
        self, roots: Mapping[int, bytes], files: Mapping[str, bytes]
    ) -> TrustedSet | None:
        """The trusted set, or None before the first or after keys were withdrawn."""
        if not files:
            return None
        try:
            return TrustedSet(roots, files, tenant=self._tenant)
        except TrustError as error:
            log.warning("trust.set_lost", extra={"what": error.what})
            return None

    def _read_trusted(self) -> tuple[dict[int, bytes], dict[str, bytes]]:
        """Read what was trusted; where that is damaged, begin at the pinned root."""
        roots, files = {self._first: self._pinned}, {}
        try:
            content = self._vault.read(self._folder / _TRUSTED)
            trusted = from_json(
                _Trusted,
                content,
                schema=TRUSTED_SCHEMA,
                name=_TRUSTED,
                largest_bytes=_LARGEST_TRUSTED_BYTES,
            )
            for name, text in trusted.files.items():
                role, version = split_name(name) or (name, 0)
                if role == "root":
                    roots[version] = text.encode()
                elif name in self._names:
                    files[name] = text.encode()
            verify_roots(roots)
        except (OSError, UnicodeEncodeError, DataError, TrustError) as error:
            log.warning("trust.reset", extra={"what": str(error)})
            return {self._first: self._pinned}, {}
        return roots, files

    def _read_floor(self) -> int:
        """The floor as it was written or, where that is lost, as the set proves it."""
        proven_ms = self._set.signed_at_ms if self._set else 0
        try:
            content = self._vault.read(self._folder / _TIME_FLOOR)
            floor = from_json(
                _TimeFloor, content, schema=TIME_FLOOR_SCHEMA, name=_TIME_FLOOR
            )
        except FileNotFoundError:
            return proven_ms
        except (OSError, DataError) as error:
            log.warning("trust.time_floor_lost", extra={"what": str(error)})
            return proven_ms
        floor_ms = min(floor.unix_ms, _LATEST_FLOOR_MS)
        return max(proven_ms, self._fallen(floor_ms, floor.keys))

    def _fallen(self, floor_ms: int, keys: tuple[str, ...]) -> int:
        """The floor, or what is left of it once the keys that set it are revoked."""
        if not keys or keys == self._online:
            return floor_ms
        return min(floor_ms, root_signed_at_ms(self._roots[max(self._roots)]))

    @property
    def _online(self) -> tuple[str, ...]:
        return online_keys(self._roots[max(self._roots)])


class _Fetcher(FetcherInterface):
    """Hands tuf what `fetch` gets."""

    def __init__(self, source: Fetch) -> None:
        self._source = source

    def _fetch(self, url: str) -> Iterator[bytes]:
        name = url.removeprefix(_URL)
        content = self._source(name)
        if content is None:
            raise DownloadHTTPError(f"the hub has no {name}", 404)
        if len(content) > LARGEST_TARGETS_BYTES:
            raise DownloadLengthMismatchError(f"{name} has {len(content)} bytes")
        return iter((content,))


@contextmanager
def _refresh_errors() -> Iterator[None]:
    """Turn what the client workflow raises into our tree."""
    try:
        with trust_errors("the hub's metadata"):
            yield
    except DownloadLengthMismatchError as error:
        raise TrustError(
            f"the hub's metadata does not end where it must: {error}",
            hint="Try again; if it stays so, do not trust what is between here and it.",
            reason=Reason.CORRUPT.value,
        ) from error
    except DownloadError as error:
        if isinstance(error.__cause__, SkerryError):
            raise error.__cause__ from error
        raise LinkError(
            f"the hub's metadata cannot be fetched: {error}",
            hint="Check that the hub is up and has something published.",
        ) from error


def _read_pinned(folder: Path, vault: Vault) -> bytes:
    try:
        return vault.read(folder / _PINNED)
    except DataError as error:
        raise TrustError(error.what, hint=error.hint) from error
    except OSError as error:
        raise StateError(
            f"no root has been pinned in {folder}: {error.strerror or error}",
            hint="Enrol this device.",
        ) from error
