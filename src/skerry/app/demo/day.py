"""Acts 3 to 5 from the first process to the last: one fleet, one bad day."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from skerry.app.demo import workshop as bench
from skerry.app.demo.acts import MeterAct, TextAct, TextNet
from skerry.app.demo.digits import read_digits, split_digits
from skerry.app.demo.field import COLLECT, FieldFigures, Lens, heal
from skerry.app.demo.fleet import KEPT, Fleet, HubPlace
from skerry.app.demo.load import Expected, Load, Reply
from skerry.app.demo.refuse import RefuseFigures, refuse
from skerry.app.demo.ship import ShipFigures, ship, start_gateways
from skerry.app.demo.stage import GATEWAYS, Stage
from skerry.app.demo.timeline import Mark
from skerry.app.demo.workshop import INPUT, Made, Workshop
from skerry.app.hub_api import HubApi
from skerry.app.publish.publisher import Publisher
from skerry.core.clock import Clock, SystemClock
from skerry.core.errors import SkerryError, StateError
from skerry.core.release import ReleaseId

RATE_PER_S = 25.0
"""Requests a second to each gateway."""

SEED, SPARE_SEED = 0, 6
FLEET_FOLDER, RELEASES_FOLDER = "fleet", "releases"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What `--keep` leaves up.

    Attributes:
        hub: The hub's URL; its status page is at `/`.
        gateways: URL by name of gateway.
        credentials: The file with the operator's token.
        releases: What is published, `NAME/VERSION`, the oldest first.
        running: What the gateways run.
        spare: A good release that no gateway has seen yet, to be rolled out.
        model: The name under which the gateways serve.
        pids: Process number by name.
        stop: A command line that stops them all.
    """

    hub: str
    gateways: dict[str, str]
    credentials: Path
    releases: tuple[str, ...]
    running: str
    spare: str
    model: str
    pids: dict[str, int]
    stop: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Day:
    """All that came of the fleet's acts.

    Attributes:
        shipped: Of act 3.
        refused: Of act 4.
        field: Of act 5.
        replies: Every request of the load, but those to the naive server.
        marks: What happened, in order.
        logs: The folder with the processes' logs.
        kept: What was left up, or None.
    """

    shipped: ShipFigures
    refused: RefuseFigures
    field: FieldFigures
    replies: tuple[Reply, ...]
    marks: tuple[Mark, ...]
    logs: Path
    kept: Kept | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Releases:
    """The releases of the day that are ready before it begins."""

    first: Made
    second: Made
    slow: Made
    good: Made
    broken: Made


def run_day(
    fleet: Fleet,
    net: TextNet,
    text: TextAct,
    meter: MeterAct,
    talk: Callable[[str], None],
    *,
    keep: bool,
) -> Day:
    """Run acts 3 to 5.

    Args:
        fleet: Nobody is in it yet; it is stopped at the end unless kept.
        net: Act 1's net.
        text: Act 2's outcome for it.
        meter: Act 2's outcome for the meter reader.
        talk: Says a line.
        keep: Whether hub and gateways are left running.

    Raises:
        StateError: Something did not go as it should; the hint names the logs.
    """
    is_kept = False
    try:
        day = asyncio.run(_Day(fleet, talk).run(net, text, meter, keep=keep))
        is_kept = day.kept is not None
        return day
    except SkerryError as error:
        told = [
            f"{name} ended with exit code {c}." for name, c in fleet.ended().items()
        ]
        if str(fleet.folder) not in error.hint:
            told.append(f"The fleet's logs: {fleet.folder}/*.log")
        raise StateError(error.what, hint=" ".join([error.hint, *told])) from error
    finally:
        if is_kept:
            fleet.keep()
        else:
            fleet.stop()


class _Day:
    """The day, act by act."""

    def __init__(self, fleet: Fleet, talk: Callable[[str], None]) -> None:
        self._fleet = fleet
        self._talk = talk
        self._clock: Clock = SystemClock()
        self._expected = Expected()

    async def run(
        self, net: TextNet, text: TextAct, meter: MeterAct, *, keep: bool
    ) -> Day:
        with stopped_by_sigterm():
            self._talk("\n3. Ship: three gateways, one signed release after another")
            workshop, pictures, first = await asyncio.to_thread(self._begin, meter)
            # Whoever makes releases needs a CPU, and so does who starts processes:
            # there are two.
            releases, hub = await asyncio.gather(
                asyncio.to_thread(self._make_releases, workshop, first, net, text),
                self._fleet.start_hub(),
            )
            async with HubApi(hub.address, hub.token) as api:
                stage = await self._set_up(hub, api, workshop, pictures)
                try:
                    return await self._acts(stage, pictures, releases, keep=keep)
                finally:
                    await stage.load.stop()

    async def _acts(
        self,
        stage: Stage,
        pictures: bench.Pictures,
        releases: Releases,
        *,
        keep: bool,
    ) -> Day:
        shipped = await ship(stage, releases.first, releases.second, pictures.night)
        self._talk("\n4. Refuse: five bad releases and a power cut, all under load")
        refused = await refuse(
            stage,
            broken=releases.broken,
            slow=releases.slow,
            good=releases.good,
            first=releases.first,
        )
        self._talk("\n5. Run continuously: the lens fogs, and the fleet heals itself")
        lens = Lens(
            clear=pictures.clear,
            fogged=pictures.fogged,
            clear_recording=pictures.clear_recording,
            fogged_recording=pictures.fogged_recording,
        )
        field = await heal(stage, lens, releases.good, self._camera)
        await stage.load.stop()
        self._tell_load(stage.load)
        return Day(
            shipped=shipped,
            refused=refused,
            field=field,
            replies=tuple(stage.load.replies),
            marks=tuple(stage.marks),
            logs=self._fleet.folder,
            kept=await self._keep(stage, releases.good, field) if keep else None,
        )

    @property
    def _camera(self) -> Path:
        return self._fleet.folder / "camera"

    def _begin(self, meter: MeterAct) -> tuple[Workshop, bench.Pictures, Made]:
        """Make release 1, on a quiet machine: the budgets follow from its bench."""
        parts = split_digits(read_digits())
        pictures = bench.deal_out(parts, np.random.default_rng(SEED))
        folder = self._fleet.folder / RELEASES_FOLDER
        workshop = Workshop(folder, parts, pictures, self._expected, clock=self._clock)
        return workshop, pictures, workshop.first(meter.step)

    def _make_releases(
        self, workshop: Workshop, first: Made, net: TextNet, text: TextAct
    ) -> Releases:
        folder = self._fleet.folder / RELEASES_FOLDER
        return Releases(
            first=first,
            second=workshop.refitted(2, first, seed=2),
            slow=workshop.refitted(3, first, seed=3, budget=workshop.tight()),
            good=workshop.refitted(4, first, seed=4),
            broken=bench.broken_text(folder, net, text),
        )

    async def _set_up(
        self, hub: HubPlace, api: HubApi, workshop: Workshop, pictures: bench.Pictures
    ) -> Stage:
        publisher = Publisher.create(
            self._fleet.folder / "publisher", hub_key=await api.online_key()
        )
        await api.put_trust(publisher.metadata())
        addresses = await start_gateways(self._fleet, hub, api, self._camera)
        for gateway in GATEWAYS:
            await api.set_desired(gateway, {"collect": COLLECT})
        load = Load(
            self._expected,
            pictures.night,
            input_name=INPUT,
            rate_per_s=RATE_PER_S,
            clock=self._clock,
        )
        return Stage(
            folder=self._fleet.folder,
            fleet=self._fleet,
            hub=hub,
            api=api,
            publisher=publisher,
            workshop=workshop,
            load=load,
            addresses=addresses,
            talk=self._talk,
            clock=self._clock,
        )

    def _tell_load(self, load: Load) -> None:
        failed = sum(reply.outcome == "failed" for reply in load.replies)
        wrong = sum(reply.outcome == "wrong" for reply in load.replies)
        self._talk(
            f"   all in all {len(load.replies):,} requests: {failed} failed, "
            f"{wrong} answered wrongly"
        )

    async def _keep(self, stage: Stage, good: Made, field: FieldFigures) -> Kept:
        running = ReleaseId.parse(field.release)
        spare = await asyncio.to_thread(
            stage.workshop.refitted, running.version + 1, good, seed=SPARE_SEED
        )
        await stage.publish(spare, deltas_from=[good])
        published = await stage.api.releases()
        return Kept(
            hub=stage.hub.address,
            gateways=dict(stage.addresses),
            credentials=stage.hub.credentials,
            releases=tuple(str(manifest.id) for manifest in reversed(published)),
            running=field.release,
            spare=str(spare.id),
            model=Workshop.NAME,
            pids=self._fleet.pids(),
            stop=f"kill $(cat {self._fleet.folder / KEPT})",
        )


@contextmanager
def stopped_by_sigterm() -> Iterator[None]:
    """Let SIGTERM do what Ctrl-C does, so that nothing is left behind."""
    loop = asyncio.get_running_loop()
    try:
        loop.add_signal_handler(signal.SIGTERM, os.kill, os.getpid(), signal.SIGINT)
    except (RuntimeError, ValueError):  # not the main thread: nobody can signal it
        yield
        return
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGTERM)
