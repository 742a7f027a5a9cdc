"""What is explored: the machines in every state, and the real parts at every step."""

from __future__ import annotations

import time
from collections import Counter

from benchmarks._faults_machine import FAULTS, Explored, explore
from benchmarks._faults_real_device import try_device
from benchmarks._faults_rollouts import explore_rollouts
from benchmarks._found import Found, Plan, row, tell
from benchmarks._harness import Measured, Row


def measure_broken(plan: Plan) -> Found:
    """Explore the machines, then try the real parts."""
    rows: list[Row] = []
    broken: list[str] = []
    cases: Counter[tuple[str, str]] = Counter()
    explorers = {
        "update machine and record": lambda: explore(faults=plan.count(3, 1)),
        "rollouts and shadows": lambda: explore_rollouts(faults=plan.count(2, 0)),
        "real agent, slots and trust": lambda: try_device(is_short=plan.quick),
    }
    for what, find in explorers.items():
        began_s = time.process_time()
        found: Explored = find()
        took_s = time.process_time() - began_s
        tell(f"{what}: {found.states} states, {len(found.broken)} broken")
        cases += found.cases
        broken += found.broken
        rows.append(
            row(
                f"{what}: invariants broken",
                "skerry",
                figure=len(found.broken),
                unit="invariants",
                n=found.states,
                note=f"{found.cases.total()} faults, {took_s:.0f} s of CPU",
            )
        )
    steps = sorted({step for step, _ in cases})
    rows += [
        row(
            f"faults at {step}",
            "explored",
            figure=sum(cases[step, fault] for fault in FAULTS),
            unit="cases",
            note=", ".join(
                f"{fault} {cases[step, fault]}"
                for fault in FAULTS
                if cases[step, fault]
            ),
        )
        for step in steps
    ]
    for what in sorted(broken, key=len)[:5]:
        tell(what)
    measured = Measured(
        id="update.simulated.broken",
        figure=float(len(broken)),
        n=cases.total(),
        unmet=min(broken, key=len, default="")[:200],
    )
    series = {fault: [float(cases[step, fault]) for step in steps] for fault in FAULTS}
    return Found(rows=rows, measured=[measured], series=series)
