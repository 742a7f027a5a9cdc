"""What a rollout costs, as a table."""

from __future__ import annotations

import asyncio
import io
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from skerry.app.commands import release_deltas as commands
from skerry.app.output import Output
from skerry.core.errors import UsageError
from skerry.core.release import ReleaseId
from skerry.evolve.ways import WayCost

FIRST = WayCost(version=1, target="any", devices=3, full_bytes=100_000, direct="making")
SECOND = WayCost(
    version=2,
    target="any",
    devices=1,
    full_bytes=100_000,
    packed_bytes=90_000,
    direct="signed",
    direct_bytes=8000,
    through=(1,),
    through_bytes=20_000,
)


class Api:
    """A hub that makes a delta while it is looked at."""

    def __init__(self) -> None:
        self.made: list[bool] = []

    async def releases(self) -> tuple[Any, ...]:
        """Three versions, and another name's."""
        named = [("meter", 1), ("meter", 3), ("meter", 2), ("door", 9)]
        return tuple(SimpleNamespace(name=one, version=two) for one, two in named)

    async def delta_costs(
        self, release: ReleaseId, *, make: bool
    ) -> tuple[WayCost, ...]:
        """The first delta is there at the second look."""
        assert release == ReleaseId(name="meter", version=3)
        self.made.append(make)
        made = WayCost(
            version=1,
            target="any",
            devices=3,
            full_bytes=100_000,
            direct="made",
            direct_bytes=16_000,
        )
        return (FIRST if len(self.made) == 1 else made, SECOND)


@pytest.fixture(name="api")
def make_api(monkeypatch: pytest.MonkeyPatch) -> Api:
    """The hub that the command speaks to."""
    api = Api()
    monkeypatch.setattr(commands, "ask", lambda _, talk: asyncio.run(talk(api)))
    monkeypatch.setattr(commands, "_PAUSE_S", 0)
    return api


def test_missing_deltas_are_waited_for(api: Api) -> None:
    """Of the newest version, unless another one is asked for."""
    said = io.StringIO()
    found = commands.deltas("meter", output=Output(stderr=said))
    assert api.made == [True, True]
    assert "1 delta being made" in said.getvalue()
    assert found.rollout_bytes == 3 * 16_000 + 8000
    assert found.full_bytes == 400_000
    assert found.rows[0].best_s == (2.0, 0.128)
    console = Console(width=120)
    with console.capture() as capture:
        console.print(commands.render_deltas(found))
    text = " ".join(capture.get().split())
    assert "made" in text
    assert "19.5 KiB (1)" in text
    assert "8.0 %" in text
    assert "4 devices: 54.7 KiB in all, 391 KiB without deltas" in text


def test_nothing_is_made_where_nobody_waits(api: Api) -> None:
    """What is not there costs the model."""
    output = Output(stderr=io.StringIO())
    found = commands.deltas("meter", version=3, wait=False, line=(8.0,), output=output)
    assert api.made == [False]
    assert found.rows[0].best_s == (100.0,)


def test_what_makes_no_sense_is_refused(api: Api) -> None:
    """A line without speed, a name without releases."""
    output = Output(stderr=io.StringIO())
    with pytest.raises(UsageError, match="carries nothing"):
        commands.deltas("meter", line=(0.0,), output=output)
    with pytest.raises(UsageError, match="no release of 'gate'"):
        commands.deltas("gate", output=output)
    assert not api.made
