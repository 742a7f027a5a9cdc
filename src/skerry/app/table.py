"""The table of commands: the one place that says what `skerry` can do.

Nothing named here is imported before its command runs.
"""

from __future__ import annotations

from dataclasses import dataclass

from skerry.app.table_fleet import FLEET_COMMANDS
from skerry.app.table_models import MODEL_COMMANDS

SUMMARY = "Take a trained model and keep it running, well, on a whole fleet."


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The first word of two-word commands."""

    name: str
    summary: str


GROUPS = (
    Group(name="device", summary="See and register the members of the fleet."),
    Group(name="experiment", summary="See and go on with searches for a recipe."),
    Group(name="fleet", summary="See the whole fleet."),
    Group(name="gateway", summary="Run a gateway."),
    Group(name="hub", summary="Run a hub."),
    Group(name="key", summary="See and change who may sign what devices run."),
    Group(name="release", summary="Sign and publish models."),
    Group(name="retraining", summary="Learn from labelled samples of the field."),
    Group(name="rollout", summary="Deliver a release in stages, and take it back."),
    Group(name="sample", summary="See and label what gateways sent from the field."),
    Group(name="serve", summary="Serve models on this machine, without a hub."),
    Group(name="shadow", summary="See and change what a device should be."),
    Group(name="report", summary="Read the evidence of a compression."),
    Group(name="runtime", summary="See what runs models here."),
    Group(name="stream", summary="Watch many cameras on this machine."),
    Group(name="target", summary="See what pieces of hardware can do."),
    Group(name="toolchain", summary="Install and run vendors' tools in isolation."),
)

COMMANDS = (*MODEL_COMMANDS, *FLEET_COMMANDS)
