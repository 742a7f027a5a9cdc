from __future__ import annotations

import heapq
import itertools
from collections import defaultdict
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.edge.streams.rates import Demand, Level, share_out
from skerry.edge.streams.scheduler import STARVE_S, Look, Scheduler, Want


@dataclass
class Cam:
    """A camera of the simulation."""

    fps: float = 5.0
    want: Want = field(default_factory=lambda: Want(rate=5.0, least=1.0))
    delay_s: float = 0.005
    weight: float = 1.0


@dataclass
class Begun:
    """A look that was begun."""

    at_s: float
    look: Look
    newest: int
    captured_s: float


def simulate(
    cameras: dict[str, Cam],
    *,
    costs_s: dict[str, float],
    cpus: int = 2,
    seconds: float = 6.0,
    believed: float = 1.0,
    deadline_s: float = 0.2,
) -> tuple[Scheduler, list[Begun]]:
    """Let cameras give pictures, and looks take what they cost, in simulated time.

    The scheduler believes the costs to be `believed` times the truth at first.
    """
    scheduler = Scheduler(
        {model: cost * believed for model, cost in costs_s.items()},
        capacity=cpus * 0.9,
        at_once=cpus,
        deadline_s=deadline_s,
    )
    order = itertools.count()
    events: list[tuple[float, int, str, object]] = []
    for place, (name, cam) in enumerate(cameras.items()):
        scheduler.join(name, weight=cam.weight)
        scheduler.want(name, dict.fromkeys(costs_s, cam.want))
        first_s = place / len(cameras) / cam.fps
        heapq.heappush(events, (first_s + cam.delay_s, next(order), "shot", (name, 0)))
    newest: dict[str, tuple[int, float]] = {}
    begun: list[Begun] = []
    woken_s = float("inf")
    while events:
        now_s, _, kind, what = heapq.heappop(events)
        if now_s > seconds:
            break
        if kind == "wake":
            woken_s = float("inf")
        if kind == "shot":
            name, number = what  # type: ignore[misc]
            cam = cameras[name]
            newest[name] = number, now_s - cam.delay_s
            scheduler.offer(name, number, now_s - cam.delay_s, now_s=now_s)
            entry = (now_s + 1 / cam.fps, next(order), "shot", (name, number + 1))
            heapq.heappush(events, entry)
        elif kind == "end":
            look = what
            assert isinstance(look, Look)
            scheduler.ended(look, {model: costs_s[model] for model in look.models})
        while (look := scheduler.next(now_s)) is not None:
            number, captured_s = newest[look.camera]
            begun.append(
                Begun(at_s=now_s, look=look, newest=number, captured_s=captured_s)
            )
            took_s = sum(costs_s[model] for model in look.models)
            heapq.heappush(events, (now_s + took_s, next(order), "end", look))
        wake_s = scheduler.wake_s(now_s)
        if wake_s is not None and now_s < wake_s < woken_s:
            woken_s = wake_s
            heapq.heappush(events, (wake_s, next(order), "wake", None))
    return scheduler, begun


def gaps_s(begun: list[Begun], seconds: float) -> dict[tuple[str, str], float]:
    """The longest time between two looks of each pair, from the start to the end."""
    times: dict[tuple[str, str], list[float]] = defaultdict(list)
    for one in begun:
        for model in one.look.models:
            times[one.look.camera, model].append(one.at_s)
    return {
        pair: max(
            after - before
            for before, after in itertools.pairwise([0.0, *found, seconds])
        )
        for pair, found in times.items()
    }


cams = st.builds(
    Cam,
    fps=st.sampled_from([1.0, 5.0, 15.0]),
    want=st.sampled_from(
        [Want(rate=5.0, least=1.0), Want(rate=2.0, least=1.0), Want(rate=1.0)]
    ),
    delay_s=st.sampled_from([0.0, 0.01, 0.1, 0.5]),
    weight=st.sampled_from([0.5, 1.0, 4.0]),
)
fleets = st.lists(cams, min_size=1, max_size=8).map(
    lambda found: {f"c{number}": cam for number, cam in enumerate(found)}
)
costs = st.fixed_dictionaries(
    {"people": st.floats(0.001, 0.08), "faces": st.floats(0.001, 0.04)}
)


@settings(max_examples=40, deadline=None)
@given(fleets, costs, st.integers(1, 4), st.floats(0.2, 5.0))
def test_nobody_waits_for_ever(
    cameras: dict[str, Cam], costs_s: dict[str, float], cpus: int, believed: float
) -> None:
    """However much is asked for, late or wrongly priced, each pair is looked at."""
    seconds = 20.0
    _, begun = simulate(
        cameras, costs_s=costs_s, cpus=cpus, seconds=seconds, believed=believed
    )
    found = gaps_s(begun, seconds)
    work_s = sum(costs_s.values()) * len(cameras) / cpus
    for name, cam in cameras.items():
        for model in costs_s:
            # A check may become six times rarer; then the queue; then the next picture.
            bound_s = 6 / cam.want.rate + STARVE_S + 12 * work_s + 2 / cam.fps + 0.5
            assert found[name, model] <= bound_s, (name, model)


@settings(max_examples=40, deadline=None)
@given(fleets, costs, st.integers(1, 4))
def test_only_the_newest_picture_is_looked_at_and_only_once(
    cameras: dict[str, Cam], costs_s: dict[str, float], cpus: int
) -> None:
    """There is no queue of pictures: what is looked at is what came last."""
    _, begun = simulate(cameras, costs_s=costs_s, cpus=cpus)
    seen = set()
    for one in begun:
        assert one.look.number == one.newest
        for model in one.look.models:
            assert (one.look.camera, model, one.look.number) not in seen
            seen.add((one.look.camera, model, one.look.number))


@settings(max_examples=40, deadline=None)
@given(fleets, costs)
def test_late_pictures_are_looked_at_once_a_second_at_most(
    cameras: dict[str, Cam], costs_s: dict[str, float]
) -> None:
    """What ends after its deadline only keeps a camera from waiting for ever."""
    scheduler, begun = simulate(cameras, costs_s=costs_s)
    late: dict[str, list[float]] = defaultdict(list)
    least_s = min(scheduler.costs_s.values())
    for one in begun:
        if one.at_s + least_s > one.captured_s + 0.2:
            late[one.look.camera].append(one.at_s)
    for times in late.values():
        for before, after in itertools.pairwise(times):
            assert after - before >= STARVE_S - 1e-9


def test_a_look_that_falls_due_between_pictures_waits_for_the_next_one() -> None:
    """Where pictures are rare, and rates fall, none is looked at a second later."""
    scheduler = Scheduler({"people": 0.01}, capacity=1.8, at_once=2, deadline_s=0.2)
    scheduler.join("gate")
    ages_s = []
    for tick in range(1200):
        now_s = tick * 0.01
        # Due at 3 s, then at 5 s: each time a second after the newest picture.
        rate = 1 / 3 if now_s < 3.5 else 1 / 5
        scheduler.want("gate", {"people": Want(rate=rate, least=0.0)})
        if tick % 200 == 0:
            scheduler.offer("gate", tick, now_s, now_s=now_s)
        if (look := scheduler.next(now_s)) is not None:
            ages_s.append(now_s - look.number * 0.01)
            scheduler.ended(look, {"people": 0.01})
    assert len(ages_s) >= 2
    assert max(ages_s) <= 0.2


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 4), fleets, costs)
def test_no_more_looks_run_at_once_than_there_are_cpus(
    cpus: int, cameras: dict[str, Cam], costs_s: dict[str, float]
) -> None:
    """And no camera is looked at twice at the same time."""
    _, begun = simulate(cameras, costs_s=costs_s, cpus=cpus)
    spans = [
        (one.at_s, one.at_s + sum(costs_s[m] for m in one.look.models), one.look.camera)
        for one in begun
    ]
    for begins_s, _, name in spans:
        under_way = [who for start, end, who in spans if start <= begins_s < end - 1e-9]
        assert len(under_way) <= cpus
        assert under_way.count(name) <= 1


def test_busy_cameras_are_served_evenly() -> None:
    """Fifty that all move, on a machine that can do a third: nobody gets much more."""
    cameras = {f"c{number}": Cam() for number in range(50)}
    scheduler, begun = simulate(
        cameras, costs_s={"people": 0.01, "faces": 0.006}, seconds=20
    )
    counts: dict[str, int] = defaultdict(int)
    for one in begun:
        counts[one.look.camera] += 1
    assert scheduler.level is Level.SLOWER
    assert max(counts.values()) / min(counts.values()) <= 1.2
    assert min(counts.values()) / 20 >= 1


def test_a_heavier_camera_is_looked_at_more_often() -> None:
    """In proportion to its weight, where there is not enough for all."""
    cameras = {f"c{number}": Cam(weight=1 + (number == 0)) for number in range(20)}
    _, begun = simulate(cameras, costs_s={"people": 0.04}, seconds=20)
    counts: dict[str, int] = defaultdict(int)
    for one in begun:
        counts[one.look.camera] += 1
    others = [count for name, count in counts.items() if name != "c0"]
    assert 1.6 <= counts["c0"] / (sum(others) / len(others)) <= 2.4


def test_models_that_are_due_together_share_a_picture() -> None:
    """So that it is converted once, and what one finds fits what the other does."""
    _, begun = simulate({"a": Cam()}, costs_s={"people": 0.01, "faces": 0.006})
    assert {one.look.models for one in begun} == {("people", "faces")}


def test_what_is_given_up_comes_in_the_stated_order() -> None:
    """First the moving ones' rates, then the checks', then all alike."""
    demands = {
        "moving": Demand(rate=5.0, least=1.0, cost_s=0.1),
        "still": Demand(rate=1.0, least=0.0, cost_s=0.1),
    }
    seen = [
        (granted.level, granted.rates["moving"], granted.rates["still"])
        for capacity in (1.0, 0.4, 0.15, 0.05)
        for granted in [share_out(demands, capacity)]
    ]
    assert [level for level, _, _ in seen] == list(Level)
    (_, *full), (_, slower, check), (_, least, rarer), (_, low, rarest) = seen
    assert full == [5.0, 1.0]
    assert (round(slower, 3), check) == (3.0, 1.0)
    assert (least, round(rarer, 3)) == (1.0, 0.5)
    assert 0 < low < 1
    assert 0 < rarest < 1 / 6


@given(
    st.dictionaries(
        st.integers(0, 30),
        st.builds(
            Demand,
            rate=st.floats(0.1, 10),
            least=st.sampled_from([0.0, 0.5, 1.0]),
            cost_s=st.floats(0.001, 0.1),
            weight=st.floats(0.1, 10),
        ),
        min_size=1,
    ),
    st.floats(0.001, 4.0),
)
def test_what_is_shared_out_is_there_and_each_gets_some(
    demands: dict[int, Demand], capacity: float
) -> None:
    """No more than the capacity, no more than is wanted, nothing to nobody."""
    granted = share_out(demands, capacity)
    assert granted.rates.keys() == demands.keys()
    cost = sum(demands[key].cost_s * rate for key, rate in granted.rates.items())
    assert cost <= capacity * (1 + 1e-6)
    for key, one in demands.items():
        assert 0 < granted.rates[key] <= one.rate * (1 + 1e-9)
        if granted.level in {Level.SLOWER, Level.CHECKS}:
            assert granted.rates[key] >= min(one.least, one.rate) * (1 - 1e-9)
