"""The fakes that Skerry ships, for users' tests as for its own."""

from __future__ import annotations

from skerry.app.simulate.disk import PowerCut, SimulatedDisk
from skerry.comms.memory import MemoryBroker
from skerry.core.clock import FakeClock

__all__ = ["FakeClock", "MemoryBroker", "PowerCut", "SimulatedDisk"]
