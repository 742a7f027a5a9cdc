from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from skerry.core.clock import FakeClock
from skerry.core.errors import RuntimeFailure, UsageError
from skerry.core.model import Model
from skerry.core.profile import OperatorTime, Profile
from skerry.core.seams import Array, LoadOptions, Tensors
from skerry.runtimes import open_any
from skerry.runtimes.null import NullRuntime, NullSession
from skerry.tasks.profiling import (
    BLOCKS,
    Block,
    Subject,
    hardware_state,
    pool,
    profile_in_turns,
)
from tests import models

X = {"x": np.ones((1, 8), np.float32)}


@dataclass
class Slow(NullRuntime):
    """A runtime whose inferences take what the test says, each its own time."""

    clock: FakeClock
    times_ms: list[float]
    order: list[str] = field(default_factory=list)
    name: str = "slow"
    tells: bool = True
    calls: int = 0

    def __post_init__(self) -> None:
        super().__init__(self.take_time)

    def take_time(self, _: Tensors) -> dict[str, Array]:
        time_s = self.times_ms[self.calls % len(self.times_ms)] / 1000
        self.calls += 1
        self.clock.advance(wall_s=2 * time_s, cpu_s=time_s)
        self.order.append(self.name)
        return {}

    def load(self, model: Model, options: LoadOptions) -> NullSession:
        del options
        return NullSession(model, self.take_time)

    def profile(
        self, model: Model, inputs: Tensors, options: LoadOptions, *, repeats: int
    ) -> Profile:
        del model, inputs
        if not self.tells:
            raise RuntimeFailure("it does not tell", hint="Ask another.")
        self.order.append(f"{self.name} profiled")
        operator = OperatorTime(
            name="op_12345", op_type="Op", latency_ms=1, times_ms=(1.0,) * repeats
        )
        return Profile(
            runtime=self.name,
            threads=options.threads,
            repeats=repeats,
            operators=(operator,),
        )


@pytest.fixture
def model(tmp_path: Path) -> Model:
    """A small model."""
    path = tmp_path / "mlp.onnx"
    path.write_bytes(models.mlp())
    return open_any(path)


def subject(model: Model, runtime: Slow) -> Subject:
    """The model on a runtime."""
    return Subject(model=model, runtime=runtime, inputs=X, options=LoadOptions())


def test_subjects_take_turns(model: Model) -> None:
    """Block by block; the whole is CPU time, the fastest fifth of it."""
    clock, order = FakeClock(), []
    steady = Slow(clock=clock, times_ms=[4.0], order=order, name="steady")
    other = Slow(clock=clock, times_ms=[2.0], order=order, name="other")
    told: list[tuple[str, int, int]] = []
    first, second = profile_in_turns(
        [subject(model, steady), subject(model, other)],
        repeats=12,
        clock=clock,
        progress=lambda *words: told.append(words),
    )
    assert order.count("steady profiled") == order.count("other profiled") == BLOCKS
    turns = [each for each in order if each.endswith("profiled")]
    assert turns == ["steady profiled", "other profiled"] * BLOCKS
    assert first.inference is not None
    assert second.inference is not None
    assert first.inference.cpu_ms == pytest.approx(4)
    assert first.inference.wall_ms == pytest.approx(8)
    assert second.inference.cpu_ms == pytest.approx(2)
    assert first.inference.noise == pytest.approx(0, abs=1e-9)
    assert first.repeats == 12
    assert (first.model, first.runtime, first.threads) == ("mlp.onnx", "steady", 1)
    assert first.operators[0].noise == 0
    assert told[-1] == ("measure", BLOCKS, BLOCKS)
    assert first.memory_bytes is None or first.memory_bytes >= 0


def test_a_restless_machine_shows(model: Model) -> None:
    """Blocks that differ make noise."""
    clock = FakeClock()
    # One call to load, then four a block, of which the last is timed: 1, 2, 1, 2 ms.
    rhythm = [1.0, *([1.0] * 4), *([2.0] * 4)]
    slow = Slow(clock=clock, times_ms=rhythm)
    (found,) = profile_in_turns([subject(model, slow)], repeats=1, clock=clock)
    assert found.inference is not None
    assert found.inference.noise == pytest.approx(1.0)


def test_a_runtime_that_tells_no_operators(model: Model) -> None:
    """The whole is measured all the same, and the profile says why that is all."""
    clock = FakeClock()
    mute = Slow(clock=clock, times_ms=[1.0], tells=False)
    (found,) = profile_in_turns([subject(model, mute)], repeats=6, clock=clock)
    assert found.operators == ()
    assert found.inference is not None
    assert found.notes == ("it does not tell. Ask another.",)


def test_nothing_to_measure_is_refused(model: Model) -> None:
    """No subject, or no repeat."""
    with pytest.raises(UsageError, match="0 subjects"):
        profile_in_turns([], repeats=1)
    runtime = Slow(clock=FakeClock(), times_ms=[1.0])
    with pytest.raises(UsageError, match="0 repeats"):
        profile_in_turns([subject(model, runtime)], repeats=0)


def block(*operators: OperatorTime, cpu_ms: float = 1.0) -> Block:
    """A block of one inference."""
    return Block(operators=operators, cpu_ms=(cpu_ms,), wall_ms=(cpu_ms,))


def timed(name: str, *times_ms: float) -> OperatorTime:
    """An operator with these times."""
    return OperatorTime(
        name=name, op_type="Conv", latency_ms=times_ms[0], times_ms=times_ms
    )


def test_blocks_are_pooled_by_operator() -> None:
    """Numbers that a runtime draws anew do not hide that it is the same operator."""
    found = pool(
        [
            block(timed("conv_1001", 1.0), timed("conv_1002", 5.0), cpu_ms=2.0),
            block(timed("conv_2001", 1.5), timed("conv_2002", 5.0), cpu_ms=2.2),
            block(timed("conv_3001", 1.0), timed("late", 9.0), cpu_ms=2.0),
        ]
    )
    assert [each.name for each in found.operators] == ["conv_1001", "conv_1002", "late"]
    assert [each.latency_ms for each in found.operators] == [1.0, 5.0, 9.0]
    assert [each.noise for each in found.operators] == [0.5, 0.0, None]
    assert found.inference is not None
    assert found.inference.noise == pytest.approx(0.1)


def test_the_machine_says_how_it_is(tmp_path: Path) -> None:
    """The hottest sensor and the fastest core; what it does not tell is unknown."""
    nothing = hardware_state(tmp_path)
    assert (nothing.temperature_c, nothing.clock_mhz) == (None, None)
    for zone, text in ((0, "41000\n"), (1, "67500\n"), (2, "not now\n")):
        folder = tmp_path / f"sys/class/thermal/thermal_zone{zone}"
        folder.mkdir(parents=True)
        (folder / "temp").write_text(text)
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text("cpu MHz\t\t: 1800.5\ncpu MHz : 2400\n")
    found = hardware_state(tmp_path)
    assert (found.temperature_c, found.clock_mhz) == (67.5, 2400)
    clock = tmp_path / "sys/devices/system/cpu/cpu0/cpufreq"
    clock.mkdir(parents=True)
    (clock / "scaling_cur_freq").write_text("1500000\n")
    assert hardware_state(tmp_path).clock_mhz == 1500
