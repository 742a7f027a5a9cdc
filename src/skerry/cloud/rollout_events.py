"""What has happened to a rollout since it was last looked at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import Connection

from skerry.cloud.devices import Devices
from skerry.cloud.rollout_plan import joining, zone_of
from skerry.cloud.shadows import read_shadows
from skerry.core.clock import Clock, time_zone
from skerry.core.fleet import Device, Figures, Outcome, Rollout, Shadow
from skerry.core.release import Manifest
from skerry.evolve.rollout import (
    DesiredChangedElsewhere,
    DeviceReported,
    Event,
    Joined,
    Tick,
    figures_of,
    is_changed_elsewhere,
    previous_release,
)
from skerry.evolve.window import SPREAD_S, is_open

OTHERS = 200
"""Of how many devices that are not updated yet figures are compared with, at most."""


class RolloutEvents:
    """Reads events for the rollout machine.

    Args:
        tenant: Whose rollouts.
        devices: Says who is offline.
        clock: Says which windows are open.
    """

    def __init__(self, tenant: str, devices: Devices, clock: Clock) -> None:
        self._tenant = tenant
        self._devices = devices
        self._clock = clock

    def gather(
        self, connection: Connection, rollout: Rollout, due: Mapping[str, None]
    ) -> list[Event]:
        """What the devices that are due say, what others changed, and the time."""
        concerned = [device for device in due if device in rollout.progress]
        shadows = read_shadows(connection, self._tenant, concerned)
        reports = [
            DeviceReported(device=device, reported=shadow.reported)
            for device, shadow in shadows.items()
        ]
        tick = Tick(
            away=self._away(connection, rollout),
            others=self._others(connection, rollout),
        )
        return [*changed_elsewhere(rollout, shadows.values()), *reports, tick]

    def joined(
        self,
        connection: Connection,
        rollout: Rollout,
        come: Sequence[Device],
        manifest: Manifest,
    ) -> list[Joined]:
        """Who of the devices that have come a dynamic rollout is for.

        Args:
            connection: Of the transaction.
            rollout: Which.
            come: Devices that are in no rollout of this release name.
            manifest: The release's.
        """
        names = [device.name for device in come]
        shadows = read_shadows(connection, self._tenant, names)
        return [
            Joined(
                device=device.name,
                previous=previous_release(shadows[device.name], rollout.release.name),
                zone=zone_of(device, shadows[device.name]),
            )
            for device in joining(rollout.query or "", come, shadows, manifest)
        ]

    def _away(self, connection: Connection, rollout: Rollout) -> frozenset[str]:
        """Whose time to answer stands still."""
        window, is_patient = rollout.window, rollout.gate.waits_for_offline
        if window is None and not is_patient:
            return frozenset()
        sent = {
            device: one.zone
            for device in rollout.waves[rollout.wave].devices
            if (one := rollout.progress[device]).outcome is Outcome.SENT
        }
        away = set[str]()
        if is_patient:
            away |= self._devices.offline(connection) & sent.keys()
        if window is not None:
            now_ms, closed = self._clock.unix_ms(), set[str]()
            # A device begins at a moment of its own after its window has opened.
            times_ms = (now_ms, now_ms - round(1000 * SPREAD_S))
            for name in set(sent.values()):
                zone = time_zone(name or window.zone or "UTC")
                if zone is not None and not all(
                    is_open(window, zone, time_ms) for time_ms in times_ms
                ):
                    closed.add(name)
            away |= {device for device, zone in sent.items() if zone in closed}
        return frozenset(away)

    def _others(self, connection: Connection, rollout: Rollout) -> Sequence[Figures]:
        """Figures of devices that are not updated yet, once a gate asks for them."""
        metrics, progress = rollout.gate.metrics, rollout.progress
        wave = rollout.waves[rollout.wave].devices
        if all(metric.relative_to != "others" for metric in metrics) or any(
            progress[device].outcome is Outcome.SENT for device in wave
        ):
            return ()
        waiting = [
            device for device, one in progress.items() if one.outcome is Outcome.WAITING
        ]
        shadows = read_shadows(connection, self._tenant, waiting[:OTHERS])
        name = rollout.release.name
        return [figures_of(one.reported, name, metrics) for one in shadows.values()]


def changed_elsewhere(
    rollout: Rollout, shadows: Iterable[Shadow]
) -> list[DesiredChangedElsewhere]:
    """Which devices' shadows no longer want what the rollout left them wanting."""
    return [
        DesiredChangedElsewhere(device=shadow.device)
        for shadow in shadows
        if is_changed_elsewhere(rollout, shadow)
    ]
