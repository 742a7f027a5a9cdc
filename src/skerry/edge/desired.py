"""What a desired document asks of a device, read from outside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeGuard

import msgspec

from skerry.core.clock import time_zone
from skerry.core.documents import Json
from skerry.core.errors import DataError, UsageError
from skerry.core.fleet import Window
from skerry.core.names import check_name
from skerry.evolve.update_state import Want
from skerry.evolve.window import check_window

MOST_NAMES = 64
"""Most release names that a device takes; as many may be on their way out."""

_LARGEST_VERSION = 999_999_999


@dataclass(frozen=True, slots=True, kw_only=True)
class Wants:
    """What a desired document asks for.

    Attributes:
        version: The shadow's.
        releases: By release name.
        collect: Settings of the field watch, for whoever runs it.
        faults: What made no sense and was left out, a sentence each.
    """

    version: int
    releases: Mapping[str, Want]
    collect: Mapping[str, Json] = field(default_factory=dict)
    faults: tuple[str, ...] = ()


def read_desired(body: Mapping[str, Any]) -> Wants:
    """Read a desired document from outside.

    Args:
        body: `{"version": …, "desired": {"releases": {NAME: {…}}, "collect": {…}}}`.

    Returns:
        What makes sense of it; what does not is among its faults.

    Raises:
        DataError: It is none at all.
    """
    version, desired = body.get("version"), body.get("desired")
    if not _is_number(version, 0, 2**53) or not isinstance(desired, dict):
        raise DataError(
            "a desired document has no version or nothing desired",
            hint="Send {'version': …, 'desired': {…}}.",
        )
    releases, collect = desired.get("releases") or {}, desired.get("collect") or {}
    if not isinstance(releases, dict) or len(releases) > MOST_NAMES:
        raise DataError(
            f"the desired releases are no object of at most {MOST_NAMES} names",
            hint="Send {'releases': {NAME: {'version': …, 'rollout': …}}}.",
        )
    wants: dict[str, Want] = {}
    faults = []
    for name, asked in releases.items():
        try:
            wants[name] = _read_want(name, asked)
        except UsageError as error:
            faults.append(error.what)
    if not isinstance(collect, dict):
        faults.append("what is to be collected is no object")
        collect = {}
    return Wants(version=version, releases=wants, collect=collect, faults=tuple(faults))


def _read_want(name: str, asked: Any) -> Want:
    check_name(name, kind="release")
    if isinstance(asked, dict):
        version, rollout = asked.get("version"), asked.get("rollout", "")
        attempt = asked.get("attempt", 1)
        is_text = isinstance(rollout, str) and len(rollout) <= 200
        if _is_number(version, 1, _LARGEST_VERSION) and is_text:
            window = _read_window(name, asked.get("window"))
            return Want(
                version=version,
                rollout=rollout,
                attempt=attempt if _is_number(attempt, 1, _LARGEST_VERSION) else 1,
                window=window,
                zone=time_zone(window.zone) if window and window.zone else None,
            )
    raise DataError(
        f"what is desired of {name} is no version of a rollout",
        hint="Send {'version': …, 'rollout': …}.",
    )


def _read_window(name: str, asked: Any) -> Window | None:
    """Read a maintenance window; whoever cannot read it must not act outside it."""
    if asked is None:
        return None
    try:
        window = msgspec.convert(asked, Window)
        check_window(window)
    except (msgspec.ValidationError, UsageError) as error:
        raise DataError(
            f"the maintenance window of {name} makes no sense: {error}",
            hint="Send {'opens': 'HH:MM', 'closes': 'HH:MM', 'days': […]}.",
        ) from error
    return window


def _is_number(value: object, least: int, most: int) -> TypeGuard[int]:
    return (
        isinstance(value, int)
        and not isinstance(value, bool)
        and least <= value <= most
    )
