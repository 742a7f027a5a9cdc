"""Which releases a service may load: the model repository extension of the protocol."""

from __future__ import annotations

from typing import Protocol

from skerry.core.errors import UsageError
from skerry.core.names import did_you_mean
from skerry.edge.installed import Installed
from skerry.edge.slots import Slots


class Repository(Protocol):
    """The releases that lie on this machine."""

    def index(self) -> tuple[Installed, ...]:
        """All of them."""
        ...

    def find(self, name: str, version: int | None = None) -> Installed:
        """The release of a name, or one version of it.

        Raises:
            UsageError: There is no such release here.
        """
        ...


class SlotRepository:
    """The releases in a gateway's slots.

    Only the active release of a name can be loaded: which one that is the agent
    decides, with the hub; a client cannot go round that.

    Args:
        slots: The gateway's.
    """

    def __init__(self, slots: Slots) -> None:
        self._slots = slots

    def index(self) -> tuple[Installed, ...]:
        """The active release of each name."""
        found = (self._slots.active(name) for name in self._slots.names())
        return tuple(installed for installed in found if installed is not None)

    def find(self, name: str, version: int | None = None) -> Installed:
        """The active release of a name.

        Raises:
            UsageError: There is none, or it is of another version.
        """
        installed = self._slots.active(name) if name in self._slots.names() else None
        if installed is None:
            raise UsageError(
                f"no release {name[:80]!r} is installed here",
                hint=did_you_mean(name[:80], self._slots.names()),
            )
        if version not in {None, installed.id.version}:
            raise UsageError(
                f"version {version} of {name!r} is not the active one",
                hint=f"It is {installed.id}; a rollout makes another one active.",
            )
        return installed
