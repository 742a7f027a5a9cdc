"""`skerry sample ls|label` and `skerry retraining …`: what was learnt in the field."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skerry.app import figures
from skerry.app.connection import ask
from skerry.app.tables import plain_table
from skerry.core.errors import UsageError
from skerry.core.release import ReleaseId

if TYPE_CHECKING:
    from rich.console import RenderableType

    from skerry.app.hub_api import HubApi

POLL_S = 0.5
ENDED = {"passed", "failed"}


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleList:
    """Field samples without their inputs, the oldest first."""

    samples: tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """A field sample that somebody has labelled."""

    sample: str
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrainingList:
    """The retrainings, the oldest first."""

    retrainings: tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrainingView:
    """A retraining; the exit code is 1 where it has failed."""

    retraining: dict[str, Any]
    exit_code: int


def ls(
    *, release: str | None = None, unlabelled: bool = False, hub: str | None = None
) -> SampleList:
    """List the samples that gateways found worth a label.

    Args:
        release: Only those that this release answered, NAME/VERSION.
        unlabelled: Only those without a label.
        hub: The hub's folder or URL; SKERRY_HUB, else ./skerry-hub, by default.
    """
    wanted = ReleaseId.parse(release) if release else None
    labelled = False if unlabelled else None
    return SampleList(
        samples=ask(hub, lambda api: api.samples(release=wanted, labelled=labelled))
    )


def label(sample: str, label: str, /, *, hub: str | None = None) -> Labelled:
    """Say what a sample shows.

    Args:
        sample: The sample's id, as `skerry sample ls` lists it.
        label: What it shows, in the words of the release's task.
        hub: The hub's folder or URL; SKERRY_HUB, else ./skerry-hub, by default.
    """
    ask(hub, lambda api: api.label_sample(sample, label))
    return Labelled(sample=sample, label=label)


def retrain(release: str, replay: Path, /, *, hub: str | None = None) -> RetrainingView:
    """Refit a release's head on labelled field samples, under gates, and wait.

    Args:
        release: NAME/VERSION; its samples are used.
        replay: Old samples with labels (.npz), which must not be forgotten.
        hub: The hub's folder or URL; SKERRY_HUB, else ./skerry-hub, by default.
    """
    wanted = ReleaseId.parse(release)
    try:
        content = replay.read_bytes()
    except OSError as error:
        raise UsageError(
            f"cannot read {replay}: {error.strerror or error}",
            hint="Check the path and its permissions.",
        ) from error

    async def run(api: HubApi) -> dict[str, Any]:
        sha256 = hashlib.sha256(content).hexdigest()
        await api.blobs.put(sha256, content)
        begun = await api.start_retraining(wanted, replay=sha256)
        while True:
            found = await api.retraining(begun)
            if found["state"] in ENDED:
                return found
            await asyncio.sleep(POLL_S)

    return _view(ask(hub, run))


def show(name: str, /, *, hub: str | None = None) -> RetrainingView:
    """Show where a retraining stands, and what its gates found.

    Args:
        name: The retraining.
        hub: The hub's folder or URL; SKERRY_HUB, else ./skerry-hub, by default.
    """
    return _view(ask(hub, lambda api: api.retraining(name)))


def ls_retrainings(*, hub: str | None = None) -> RetrainingList:
    """List the retrainings.

    Args:
        hub: The hub's folder or URL; SKERRY_HUB, else ./skerry-hub, by default.
    """
    return RetrainingList(retrainings=ask(hub, lambda api: api.retrainings()))


def _view(found: dict[str, Any]) -> RetrainingView:
    return RetrainingView(
        retraining=found, exit_code=1 if found["state"] == "failed" else 0
    )


def render_ls(found: SampleList) -> RenderableType:
    """Render as a table with one row a sample."""
    table = plain_table("sample", "release", "why", "said", "#sure", "label")
    for one in found.samples:
        table.add_row(
            str(one["id"]),
            str(one["release"]),
            str(one["kind"]),
            str(one["prediction"]),
            figures.show_percent(float(one["confidence"])),
            str(one.get("label") or ""),
        )
    return table


def render_label(labelled: Labelled) -> str:
    """Say it once more."""
    return f"{labelled.sample} shows {labelled.label!r}."


def render_show(view: RetrainingView) -> RenderableType:
    """Render as a line and a table of the evidence."""
    from rich.console import Group

    found = view.retraining
    table = plain_table("evidence", "")
    for key, value in (found.get("evidence") or {}).items():
        table.add_row(key, f"{value:g}" if isinstance(value, float) else str(value))
    line = f"{found['id']}: {found['release']} {found['state']}"
    return Group(f"{line} {found.get('reason') or ''}".strip(), table)


def render_retrainings(found: RetrainingList) -> RenderableType:
    """Render as a table with one row a retraining."""
    table = plain_table("retraining", "release", "state", "started", "why")
    for one in found.retrainings:
        table.add_row(
            str(one["id"]),
            str(one["release"]),
            str(one["state"]),
            figures.show_time(one["started_at_ms"]),
            str(one.get("reason") or ""),
        )
    return table
