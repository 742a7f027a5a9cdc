"""The demo's own meter reader on digits that it was not trained on."""

from __future__ import annotations

from pathlib import Path

from benchmarks.nets.case import write_case
from skerry.app.demo import networks
from skerry.app.demo.digits import read_digits, split_digits
from skerry.graph import open_model
from skerry.tasks.samples import split, take

QUICK_DIGITS = 400


def write_meter(folder: Path, *, seed: int, quick: bool) -> None:
    """Write the case; the seed says which half of the held-out digits reports."""
    model = open_model(networks.meter_path())
    parts = split_digits(read_digits())
    held_out = networks.meter_samples(parts.held_out, model)
    chosen = take(held_out, QUICK_DIGITS) if quick else held_out
    selection, report = split(chosen, seed)
    write_case(
        folder,
        model,
        networks.meter_task(),
        calibration=networks.meter_samples(parts.calibration, model),
        selection=selection,
        report=report,
    )
