"""What is asked of a search."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from skerry.compress.alike.choose import Alike
from skerry.compress.ptq.calibrate import Progress
from skerry.compress.search.cache import Cache
from skerry.compress.search.making import Trainer
from skerry.compress.search.meter import Meter
from skerry.core.budget import Budget
from skerry.core.model import Model
from skerry.core.seams import Runtime, Tensors
from skerry.tasks.samples import SampleSource
from skerry.tasks.task import Task

DEFAULT_BUDGET = Budget(accuracy_drop=0.01)

DEFAULT_DISTANCE = 0.01
"""The largest mean relative squared error of the outputs where there are no labels: 20
dB, what a golden sample of a release may differ by where its task says nothing else. A
model beyond it would be refused by each device that checks it."""

DEFAULT_INTEGER_SHARE = 0.9
"""Share of the operators that a step quantizes which must stay in integers when others
are left in float for their time alone: each of those makes the file larger."""

Preference = Literal["latency", "size", "accuracy"]
"""What counts among those that hold the budget: `latency` takes the fastest, `size`
the smallest file, `accuracy` the one that loses least of those that are faster or
smaller than the source."""


Refuse = Callable[[Model, Tensors], str]
"""Says of a model, and of one sample, why it would not run where it is to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What is to be compressed, on which data, within which budget.

    Attributes:
        calibration: Real inputs; labels are not looked at.
        selection: Samples that the search may look at.
        task: How outputs are decoded and scored; None compares outputs with the
            source's, for which no labels are needed.
        runtime: What the result runs on, and is timed on.
        budget: What must hold.
        distance: The largest mean relative squared error of outputs without a task.
        prefer: What counts among those that hold.
        integer_share: The least share of operators in integers where others are left
            in float only because integers slow them down.
        others: Further runtimes to try.
        missing: Why a runtime was not tried, by its name.
        is_any_runtime: Whether the result may run on one of the others.
        threads: CPU threads for calibration and evaluation; latency is measured on one.
        cache: What is kept from one search to the next.
        trainer: What does the steps of a recipe that train; None where there are none.
        refuse: What is known of other hardware, where the result is to run on that;
            None where it runs here.
        meter: What measures latencies on the device that the result is for; None
            where this machine does.
        alike: The version before, where the delta from it is to be small.
        progress: Told of what is under way.
    """

    calibration: SampleSource
    selection: SampleSource
    task: Task | None
    runtime: Runtime
    budget: Budget = DEFAULT_BUDGET
    distance: float = DEFAULT_DISTANCE
    prefer: Preference = "latency"
    integer_share: float = DEFAULT_INTEGER_SHARE
    others: tuple[Runtime, ...] = ()
    missing: Mapping[str, str] = field(default_factory=dict)
    is_any_runtime: bool = False
    threads: int = 1
    cache: Cache = field(default_factory=lambda: Cache(None))
    trainer: Trainer | None = None
    refuse: Refuse | None = None
    meter: Meter | None = None
    alike: Alike | None = None
    progress: Progress | None = None
