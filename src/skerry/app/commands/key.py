"""`skerry key ls|make|add|revoke|rotate|sign|publish`: who signs what devices run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from skerry.app import figures
from skerry.app.commands.release import PUBLISHER_FOLDER
from skerry.app.connection import ask
from skerry.app.publish.roles import RoleState
from skerry.app.tables import plain_table
from skerry.core import durable
from skerry.core.clock import SystemClock
from skerry.core.errors import SkerryError, UsageError
from skerry.core.files import read_file

if TYPE_CHECKING:
    from rich.console import RenderableType

    from skerry.app.hub_api import HubApi
    from skerry.app.publish.publisher import Publisher
    from skerry.evolve.trust import Standing

SHOWN_DIGITS = 12
"""How many digits of a key's id people see and type."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyList:
    """Who may sign what.

    Attributes:
        roles: Each role.
        warnings: What grows old or waits, a sentence each.
    """

    roles: tuple[RoleState, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPair:
    """A new pair of keys.

    Attributes:
        private: The file of the private key.
        public: The file of the public one, for the publisher.
        key: Its id.
    """

    private: Path
    public: Path
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleChange:
    """A change of who may sign a role.

    Attributes:
        role: Which.
        key: The id of the key that was added or taken away.
        waiting: The files that lack signatures.
    """

    role: str
    key: str
    waiting: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Countersigned:
    """A draft with one more signature.

    Attributes:
        file: Which.
        standing: What it says of itself, and who has signed it.
    """

    file: Path
    standing: Standing


@dataclass(frozen=True, slots=True, kw_only=True)
class HandedIn:
    """What a hub was given.

    Attributes:
        root_sha256: What devices pin when they enrol from now on.
        releases: The releases that are published now.
        refused: Releases that the hub does not take, with the reason.
        waiting: The files that lack signatures.
    """

    root_sha256: str
    releases: tuple[str, ...]
    refused: tuple[str, ...]
    waiting: tuple[str, ...]


def ls(
    *, publisher: Path = Path(PUBLISHER_FOLDER), key: tuple[Path, ...] = ()
) -> KeyList:
    """List who may sign what, and what waits for signatures.

    Args:
        publisher: The publisher's folder.
        key: A private key that lies elsewhere; repeat it for several.
    """
    states = _open(publisher, key).roles.states()
    return KeyList(
        roles=states, warnings=tuple(one for state in states for one in _warn(state))
    )


def make(name: Path, /) -> KeyPair:
    """Make a pair of keys, for somebody who signs on a machine of their own.

    Args:
        name: NAME.pem is the private key, which stays with them; NAME.pub the public
            one, for `skerry key add`.
    """
    from skerry.evolve.trust import key_id, make_key, public_key

    private, public = name.with_suffix(".pem"), name.with_suffix(".pub")
    for path in (private, public):
        if path.exists():
            raise UsageError(f"{path} is there already", hint="Choose another name.")
    key = make_key()
    durable.write_file(private, key, disk=durable.PRIVATE_DISK)
    durable.write_file(public, public_key(key))
    return KeyPair(private=private, public=public, key=key_id(public_key(key)))


def add(
    role: str,
    public: Path,
    /,
    *,
    threshold: int | None = None,
    publisher: Path = Path(PUBLISHER_FOLDER),
    key: tuple[Path, ...] = (),
) -> RoleChange:
    """Let another key sign a role; `skerry key publish` then tells the hub.

    Args:
        role: root, targets, tenant or online.
        public: The public key's file, as `skerry key make` writes it.
        threshold: How many keys must sign from now on; as before by default.
        publisher: The publisher's folder.
        key: A private key that lies elsewhere; repeat it for several.
    """
    signer = _open(publisher, key)
    added = signer.roles.add(role, read_file(public), threshold=threshold)
    return _changed(signer, role, added)


def revoke(
    role: str,
    keyid: str,
    /,
    *,
    threshold: int | None = None,
    publisher: Path = Path(PUBLISHER_FOLDER),
    key: tuple[Path, ...] = (),
) -> RoleChange:
    """Let a key sign a role no more; `skerry key publish` then tells the hub.

    Args:
        role: root, targets, tenant or online.
        keyid: The first digits of the key's id.
        threshold: How many keys must sign from now on; as before by default.
        publisher: The publisher's folder.
        key: A private key that lies elsewhere; repeat it for several.
    """
    signer = _open(publisher, key)
    revoked = signer.roles.revoke(role, keyid, threshold=threshold)
    return _changed(signer, role, revoked)


def rotate(
    role: str,
    keyid: str = "",
    /,
    *,
    publisher: Path = Path(PUBLISHER_FOLDER),
    key: tuple[Path, ...] = (),
    hub: str | None = None,
) -> RoleChange:
    """Put a new key in the place of one; `skerry key publish` then tells the hub.

    Args:
        role: root, targets, tenant or online; the hub makes its new online key itself.
        keyid: The first digits of the old key's id; needed where there are several, and
            for an online key that the hub has lost.
        publisher: The publisher's folder.
        key: A private key that lies elsewhere; repeat it for several.
        hub: The hub's folder or URL; SKERRY_HUB, else ./skerry-hub, by default.
    """
    from skerry.evolve.trust import key_id

    signer = _open(publisher, key)
    if role != "online":
        return _changed(signer, role, signer.roles.rotate(role, keyid))

    async def talk(api: HubApi) -> tuple[bytes, bytes]:
        return await api.online_key(), await api.next_online_key()

    old, new = ask(hub, talk)
    replaced = signer.roles.find(role, keyid) if keyid else key_id(old)
    signer.roles.replace(role, {replaced: new})
    return _changed(signer, role, key_id(new))


def sign(file: Path, /, *, key: tuple[Path, ...]) -> Countersigned:
    """Sign a file that somebody else has drafted, and send it back to them.

    Args:
        file: The draft, under the name that it came with: VERSION.ROLE.json.
        key: Your private key.
    """
    from skerry.evolve.trust import countersign, read_standing, split_name

    named = split_name(file.name)
    if named is None:
        raise UsageError(
            f"{file.name} is not the name of a draft", hint="See: skerry key ls."
        )
    content = read_file(file)
    for one in key:
        content = countersign(content, read_file(one))
    durable.write_file(file, content)
    return Countersigned(
        file=file,
        standing=read_standing(content, role=named[0], now_ms=SystemClock().unix_ms()),
    )


def publish(
    *files: Path,
    publisher: Path = Path(PUBLISHER_FOLDER),
    key: tuple[Path, ...] = (),
    hub: str | None = None,
) -> HandedIn:
    """Renew what grows old, and hand a hub what enough have signed.

    Doing it again does no harm: what the hub has already is left as it is.

    Args:
        files: Drafts that came back with signatures of others.
        publisher: The publisher's folder.
        key: A private key that lies elsewhere; repeat it for several.
        hub: The hub's folder or URL; SKERRY_HUB, else ./skerry-hub, by default.
    """
    signer = _open(publisher, key)
    for file in files:
        signer.take_back(file.name, read_file(file))
    metadata = signer.metadata()

    async def hand_in(api: HubApi) -> HandedIn:
        root_sha256 = await api.put_trust(metadata)
        there = {one.id for one in await api.releases()}
        published, refused = [], []
        for release, sha256 in sorted(signer.manifests.items()):
            if release in there:
                continue
            try:
                await api.publish_manifest(sha256, {})
                published.append(str(release))
            except SkerryError as error:
                refused.append(f"{release}: {error.what}")
        return HandedIn(
            root_sha256=root_sha256,
            releases=tuple(published),
            refused=tuple(refused),
            waiting=_waiting(signer),
        )

    return ask(hub, hand_in)


def _open(folder: Path, keys: Sequence[Path]) -> Publisher:
    from skerry.app.publish.publisher import Publisher

    return Publisher.open(folder, keys=[read_file(key) for key in keys])


def _changed(signer: Publisher, role: str, keyid: str) -> RoleChange:
    signer.settle()
    return RoleChange(role=role, key=keyid, waiting=_waiting(signer))


def _waiting(signer: Publisher) -> tuple[str, ...]:
    return tuple(state.draft for state in signer.roles.states() if state.draft)


def _warn(state: RoleState) -> list[str]:
    said = []
    if state.lacking:
        said.append(f"{state.draft} waits for {state.lacking} more to sign")
    if state.standing is not None and state.standing.is_due:
        when = figures.show_time(state.standing.expires_at_ms)
        says = "expired on" if state.standing.is_expired else "expires on"
        said.append(f"{state.role} {says} {when}: run skerry key publish")
    if state.role == "root" and len(state.keys) == state.threshold:
        said.append(
            "if one key of root is lost, each device has to be enrolled anew: add one "
            "that lies elsewhere"
        )
    return said


def render_ls(found: KeyList) -> RenderableType:
    """Render as a table with one row a key, and the warnings below."""
    from rich.console import Group

    table = plain_table("role", "needs", "key", "", "expires")
    for state in found.roles:
        needs = f"{state.threshold} of {len(state.keys)}"
        until = state.standing.expires_at_ms if state.standing else None
        shown = figures.show_time(until) if until else ""
        for place, keyid in enumerate(state.keys):
            first = (state.role, needs) if place == 0 else ("", "")
            here = "here" if keyid in state.here else ""
            table.add_row(
                *first, keyid[:SHOWN_DIGITS], here, shown if place == 0 else ""
            )
    return Group(table, *found.warnings)


def render_make(made: KeyPair) -> str:
    """Say which file goes where."""
    return (
        f"{made.private} is the private key: keep it, and keep it secret.\n"
        f"{made.public} is for the publisher: skerry key add ROLE {made.public}.\n"
        f"Its id is {made.key[:SHOWN_DIGITS]}."
    )


def render_change(changed: RoleChange) -> str:
    """Say what must be signed yet, or that all is."""
    said = f"{changed.role}: {changed.key[:SHOWN_DIGITS]}."
    if not changed.waiting:
        return f"{said}\nAll is signed: tell the hub with skerry key publish."
    return "\n".join(
        [said, *(f"{file} waits for signatures." for file in changed.waiting)]
    )


def render_sign(signed: Countersigned) -> str:
    """Say what was signed, and by whom it is by now."""
    standing = signed.standing
    return (
        f"{signed.file} is version {standing.version} of {standing.role}, until "
        f"{figures.show_time(standing.expires_at_ms)}.\n"
        f"It carries {len(standing.signed_by)} signatures: send it back."
    )


def render_publish(given: HandedIn) -> str:
    """Say what the hub has now, and what waits."""
    lines = [f"The hub trusts the root {given.root_sha256}."]
    lines += [f"{release} is published." for release in given.releases]
    lines += [f"Refused: {what}." for what in given.refused]
    lines += [f"{file} waits for signatures." for file in given.waiting]
    return "\n".join(lines)
