"""The fakes that Skerry ships, for users' tests as for its own.

The fleet needs the extras `gateway` and `hub`; it is loaded when it is asked for, so
that the other fakes do without.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from skerry.app.simulate.disk import PowerCut, SimulatedDisk
from skerry.comms.memory import MemoryBroker
from skerry.core.clock import FakeClock
from skerry.runtimes.null import NullRuntime

if TYPE_CHECKING:
    from skerry.app.simulate.fleet import FleetSimulator
    from skerry.app.simulate.gain import GainModel, make_gain_release
    from skerry.app.simulate.loop import simulate
    from skerry.app.simulate.toolchain import SimulatedToolchain

__all__ = [
    "FakeClock",
    "FleetSimulator",
    "GainModel",
    "MemoryBroker",
    "NullRuntime",
    "PowerCut",
    "SimulatedDisk",
    "SimulatedToolchain",
    "make_gain_release",
    "simulate",
]

_LAZY = {
    "FleetSimulator": "skerry.app.simulate.fleet",
    "GainModel": "skerry.app.simulate.gain",
    "SimulatedToolchain": "skerry.app.simulate.toolchain",
    "make_gain_release": "skerry.app.simulate.gain",
    "simulate": "skerry.app.simulate.loop",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)
