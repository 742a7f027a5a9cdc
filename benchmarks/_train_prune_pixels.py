"""Pixels: YOLOX-nano at several resolutions, mean average precision beside time."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from benchmarks._found import tell
from benchmarks._harness import Measured, Row
from benchmarks.nets.case import Case
from benchmarks.nets.coco import PICTURES
from benchmarks.nets.detectors import MODELS, write_yolox
from benchmarks.nets.places import data
from skerry.compress.ptq.quantize import StepContext
from skerry.compress.resize import ResizeInput
from skerry.core.durable import make_folder
from skerry.core.seams import LoadOptions
from skerry.graph import read_graph, write_graph
from skerry.runtimes import get_runtime
from skerry.tasks.evaluate import evaluate
from skerry.tasks.measure import measure_latency, ratio

BAR = "train.resolution.rows"
SIDES = (224, 320, 416)
REPEATS, QUICK_REPEATS = 21, 5


def measure(work: Path, *, quick: bool) -> tuple[list[Row], Measured]:
    """Resize the net, and measure each size on the same pictures."""
    needs = (data(MODELS)(), data(PICTURES)())
    lacking = "; ".join(one for one in needs if one is not None)
    if lacking:
        return [], Measured(id=BAR, figure=None, n=0, unmet=lacking)
    folder = work / f"yolox{'-quick' * quick}"
    make_folder(folder)
    write_yolox(folder, seed=0, quick=quick)
    case = Case.read(folder)
    runtime = get_runtime("onnxruntime")
    sessions, scores = {}, {}
    for side in SIDES:
        tell(f"YOLOX-nano at {side}")
        step = ResizeInput(height=side, width=side)
        context = StepContext(calibration=case.calibration, runtime=runtime)
        graph = step.apply(read_graph(case.model.path), context)
        model = write_graph(graph, folder / f"yolox-{side}.onnx")
        sessions[side] = runtime.load(model, LoadOptions(threads=1))
        samples = step.change_samples(case.report, case.model.inputs)
        task = step.change_task(case.task, case.model.inputs)
        scores[side] = (evaluate(sessions[side], samples, task), next(iter(samples)))
    calls = {
        str(side): lambda session=session, inputs=scores[side][1].inputs: session.run(
            inputs
        )
        for side, session in sessions.items()
    }
    times = measure_latency(calls, repeats=QUICK_REPEATS if quick else REPEATS)
    rows: list[Row] = []
    whole = times[str(SIDES[-1])]
    for side, (score, _) in scores.items():
        found = ratio(times[str(side)], whole)
        rows.append(
            {
                "what": "mAP at a resolution",
                "net": f"YOLOX-nano, {side} × {side}",
                "figure": score.value,
                "unit": "mAP",
                "n": len(score.names),
                "ms": times[str(side)].median_ms,
                "note": f"{found.median:.2f} × the time at {SIDES[-1]}",
            }
        )
    for session in sessions.values():
        with closing(session):
            pass
    return rows, Measured(id=BAR, figure=float(len(rows)), n=len(case.report))
