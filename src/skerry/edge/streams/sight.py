"""What a gateway sees: its cameras, looked at with the releases that it serves.

A model is the release of its name, whichever the engine has serve: a rollout, a roll
back and a canary reach the cameras as they reach any client.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from skerry.comms.asgi import AsgiApp
from skerry.core.clock import Clock
from skerry.core.seams import Camera
from skerry.edge.engine import Engine
from skerry.edge.exposition import Family
from skerry.edge.streams.clips import ClipFolder
from skerry.edge.streams.eyes import eyes_of
from skerry.edge.streams.figures import families_of
from skerry.edge.streams.leaving import MakeClip
from skerry.edge.streams.runner import Outlets, Put, Streams
from skerry.edge.streams.settings import CamerasSettings
from skerry.edge.streams.wall import before, make_wall
from skerry.edge.turns import usable_cpus
from skerry.edge.vault import Vault

CLIPS = "clips"
"""The folder of clips, in the gateway's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """The cameras of a gateway, before it runs.

    Attributes:
        settings: What they are.
        cameras: One an entry of the settings, by name.
        make_clip: Encodes clips.
    """

    settings: CamerasSettings
    cameras: Mapping[str, Camera]
    make_clip: MakeClip

    def open(
        self,
        engine: Engine,
        *,
        put: Put,
        folder: Path,
        vault: Vault,
        token: str | None,
        clock: Clock,
    ) -> OpenSight:
        """Put the cameras before an engine; `OpenSight.run` has them watched.

        Args:
            engine: Runs the releases.
            put: Takes events.
            folder: The gateway's, for clips.
            vault: Keeps its files.
            token: What those who look at the wall must show.
            clock: What measures time.

        Raises:
            StorageError: The disk refused.
        """
        clips = ClipFolder(folder / CLIPS, vault=vault)
        streams = Streams(
            self.settings,
            self.cameras,
            engine,
            eyes_of(self.settings.models),
            clock=clock,
            cpus=usable_cpus(),
            outlets=Outlets(put=put, clips=clips, make_clip=self.make_clip),
        )
        return OpenSight(streams, token=token)


class OpenSight:
    """The cameras of a gateway that runs.

    Args:
        streams: They.
        token: What those who look at the wall must show.
    """

    def __init__(self, streams: Streams, *, token: str | None) -> None:
        self._streams = streams
        self._token = token

    async def run(self) -> None:
        """Watch all cameras until cancelled, or until each of them has ended."""
        await self._streams.run()

    def front(self, app: AsgiApp) -> AsgiApp:
        """Put the wall before an application."""
        return before(app, make_wall(self._streams, token=self._token))

    def families(self) -> Iterator[Family]:
        """How the cameras do, as metrics."""
        return families_of(self._streams.figures(), self._streams.latencies())
