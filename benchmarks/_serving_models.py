"""What is served: a detector, a model that answers zeros, and releases of them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from benchmarks._serving_load import Check, Reply, post
from benchmarks._serving_runtime import NAME as SCRIPTED
from skerry.core.budget import Budget
from skerry.core.durable import make_folder, write_file
from skerry.core.errors import UsageError
from skerry.core.model import TensorSpec
from skerry.core.release import (
    Blob,
    Manifest,
    ReleaseModel,
    read_manifest,
    write_manifest,
)
from skerry.core.seams import Array, LoadOptions
from skerry.edge.installed import Installed
from skerry.edge.protocol.datatypes import DATATYPES
from skerry.graph import open_model
from skerry.runtimes.onnxruntime import OnnxRuntime
from skerry.tasks.golden import Golden, GoldenSample, golden_to_bytes

SIDE = 320
PICTURE = (1, 3, SIDE, SIDE)
LINE = (1, 3, 48, 192)
CLOSE = 1e-3
"""How far an answer may be from what was expected, of the largest output."""

TIMEOUT_HEADER = "Skerry-Timeout-Ms: 20000"


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A model and what it gives for some inputs.

    Attributes:
        title: What it is called in the table.
        onnx: Its file, or None for one that answers zeros.
        inputs: What it takes.
        outputs: What it gives.
        samples: Inputs of requests.
        answers: The outputs for each of them.
    """

    title: str
    onnx: Path | None
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    samples: tuple[dict[str, Array], ...] = field(repr=False)
    answers: tuple[dict[str, Array], ...] = field(repr=False)

    def check(self, index: int, outputs: Mapping[str, Array], gain: float = 1) -> str:
        """Say what is wrong with the outputs for a sample."""
        for name, wanted in self.answers[index].items():
            got = outputs.get(name)
            if got is None or got.size != wanted.size:
                return f"the output {name} is missing or of another size"
            room = CLOSE * max(float(np.abs(wanted).max()), 1e-6) / 10
            if not np.abs(got.reshape(wanted.shape) - wanted * gain).max() <= room:
                return f"the output {name} is wrong"
        return ""


def rapidocr_detector() -> Path:
    """Where the wheel of rapidocr has its detector of text.

    Raises:
        UsageError: It is not installed.
    """
    spec = find_spec("rapidocr_onnxruntime")
    places = spec.submodule_search_locations if spec else None
    for place in places or ():
        path = Path(place, "models", "ch_PP-OCRv4_det_infer.onnx")
        if path.exists():
            return path
    raise UsageError(
        "there is no detector",
        hint="Set SKERRY_DATA, or pip install rapidocr-onnxruntime.",
    )


def detector(count: int = 8) -> Served:
    """The detector of the bars: rapidocr's, of text, at 320×320."""
    return served_onnx("PP-OCRv4 detector", rapidocr_detector(), count=count)


def other_detectors(count: int = 8) -> list[Served]:
    """YOLOX-nano at its own size, where there is data: a quick net of large tensors."""
    path = _data("yolox_nano", "yolox_nano.onnx")
    return [served_onnx("YOLOX-nano", path, count=count)] if path else []


def served_onnx(
    title: str, path: Path, *, count: int, sizes: tuple[int, ...] = PICTURE
) -> Served:
    """Any model of one input of pictures, with random ones.

    Args:
        title: What it is called.
        path: Its file.
        count: How many samples.
        sizes: Of the input, where the model leaves them open.
    """
    model = open_model(path)
    spec = model.inputs[0]
    shape = tuple(
        size if isinstance(size, int) else default
        for size, default in zip(spec.shape, sizes, strict=True)
    )
    rng = np.random.default_rng(5)
    samples = tuple(
        {spec.name: rng.random(shape, np.float32).astype(spec.dtype)}
        for _ in range(count)
    )
    session = OnnxRuntime().load(model, LoadOptions(threads=1))
    try:
        answers = tuple(session.run(sample) for sample in samples)
    finally:
        session.close()
    return Served(
        title=f"{title} {shape[2]}×{shape[3]}",
        onnx=path,
        inputs=model.inputs,
        outputs=model.outputs,
        samples=samples,
        answers=answers,
    )


def null_model(count: int = 8) -> Served:
    """A model of 307,200 bytes of input that answers zeros."""
    inputs = (TensorSpec(name="x", dtype="uint8", shape=(1, SIDE, SIDE, 3)),)
    outputs = (TensorSpec(name="y", dtype="float32", shape=(1, 1000)),)
    rng = np.random.default_rng(6)
    x = rng.integers(0, 255, (count, 1, SIDE, SIDE, 3), np.uint8)
    zeros = np.zeros((1, 1000), np.float32)
    return Served(
        title="null 307 KB",
        onnx=None,
        inputs=inputs,
        outputs=outputs,
        samples=tuple({"x": row} for row in x),
        answers=({"y": zeros},) * count,
    )


def write_release(
    folder: Path,
    served: Served,
    *,
    name: str = "det",
    version: int = 1,
    runtime: str = "",
    budget: Budget | None = None,
    content: bytes | None = None,
    tolerance: float = 1e-4,
    **script: Any,
) -> Path:
    """Put a release into a folder, as an agent would have done.

    Args:
        folder: Where the folders of releases lie.
        served: The model.
        name: The release's name.
        version: Its version.
        runtime: What runs it; empty: onnxruntime, or the scripted one where there is a
            script, or the null one.
        budget: What must hold.
        content: The model file instead of its own.
        tolerance: Of its golden samples.
        script: What the scripted runtime is told.
    """
    if not runtime:
        runtime = SCRIPTED if script else "onnxruntime" if served.onnx else "null"
    if content is None:
        if script:
            onnx = str(served.onnx) if served.onnx else ""
            content = msgspec.json.encode({"onnx": onnx, **script})
        else:
            content = served.onnx.read_bytes() if served.onnx else b"null"
    gain = np.float32(script.get("gain", 1))
    samples = tuple(
        GoldenSample(
            name=str(index),
            inputs=sample,
            outputs={key: array * gain for key, array in answer.items()},
        )
        for index, (sample, answer) in enumerate(
            zip(served.samples[:2], served.answers[:2], strict=True)
        )
    )
    golden = golden_to_bytes(Golden(samples=samples, tolerance=tolerance))
    manifest = Manifest(
        name=name,
        version=version,
        created_at_ms=0,
        models=(
            ReleaseModel(
                target="any",
                runtime=runtime,
                blob=_blob(content),
                inputs=served.inputs,
                outputs=served.outputs,
            ),
        ),
        golden=_blob(golden),
        task=_blob(b"task"),
        budget=budget or Budget(),
    )
    place = folder / f"{name}-{version}"
    make_folder(place)
    write_file(place / "model", content)
    write_file(place / "golden", golden)
    write_file(place / "release.json", write_manifest(manifest))
    return place


def read_release(place: Path) -> Installed:
    """Read a release that `write_release` wrote."""
    manifest = read_manifest((place / "release.json").read_bytes())
    files = {role: place / role for role in ("model", "golden")}
    return Installed(manifest=manifest, model=manifest.models[0], files=files)


def _blob(content: bytes) -> Blob:
    return Blob(sha256=sha256(content).hexdigest(), size_bytes=len(content))


def infer_request(
    name: str, inputs: Mapping[str, Array], headers: Sequence[str] = (TIMEOUT_HEADER,)
) -> bytes:
    """A request of the Open Inference Protocol with binary tensors both ways."""
    described = [
        {
            "name": key,
            "datatype": DATATYPES[array.dtype.name],
            "shape": array.shape,
            "parameters": {"binary_data_size": array.nbytes},
        }
        for key, array in inputs.items()
    ]
    asked = {"inputs": described, "parameters": {"binary_data_output": True}}
    head = msgspec.json.encode(asked)
    body = b"".join([head, *(array.tobytes() for array in inputs.values())])
    length = f"Inference-Header-Content-Length: {len(head)}"
    kind = "Content-Type: application/octet-stream"
    return post(f"/v2/models/{name}/infer", body, [length, kind, *headers])


def read_outputs(reply: Reply) -> tuple[str, dict[str, Array]]:
    """Which release answered, and what.

    Raises:
        ValueError: It is no answer.
    """
    told = msgspec.json.decode(reply.body[: reply.head_bytes])
    found, at = {}, reply.head_bytes
    dtypes = {datatype: name for name, datatype in DATATYPES.items()}
    for each in told["outputs"]:
        size = each["parameters"]["binary_data_size"]
        dtype = np.dtype(dtypes[each["datatype"]])
        array = np.frombuffer(reply.body, dtype, size // dtype.itemsize, at)
        found[each["name"]] = array.reshape(each["shape"])
        at += size
    return told["parameters"]["release"], found


def checking(served: Served, gains: Mapping[str, float] | None = None) -> Check:
    """Check the answers of our service.

    Args:
        served: The model.
        gains: What each release multiplies its outputs by; None: any, by 1.
    """

    def check(index: int, reply: Reply) -> str:
        if reply.status != 200:
            return f"{reply.status}: {reply.body[:200].decode('utf-8', 'replace')}"
        try:
            release, outputs = read_outputs(reply)
        except (ValueError, KeyError, TypeError) as error:
            return f"not an answer: {error}"
        gain = 1.0
        if gains is not None:
            if release not in gains:
                return f"answered by {release}"
            gain = gains[release]
        return served.check(index, outputs, gain)

    return check


def light_model(count: int = 8) -> Served:
    """A real model that this machine can run 30 times a second beside all else.

    It is FastestDet where there is data, else rapidocr's classifier of text lines.
    """
    if path := _data("fastestdet", "FastestDet.onnx"):
        return served_onnx("FastestDet", path, count=count)
    path = rapidocr_detector().with_name("ch_ppocr_mobile_v2.0_cls_infer.onnx")
    return served_onnx("PP-OCR line direction", path, count=count, sizes=LINE)


def _data(*parts: str) -> Path | None:
    """A file of the detection models beside the project, if it is there."""
    given = os.environ.get("SKERRY_DATA", "")
    path = Path(given, "models_detection", *parts)
    return path if given and path.exists() else None
