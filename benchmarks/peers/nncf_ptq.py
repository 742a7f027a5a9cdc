"""NNCF on ONNX and on OpenVINO's own form, its defaults where not said."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from typing import Any

# Both libraries report to their makers where this package can be imported.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
os.environ["NNCF_CI"] = "1"

import nncf  # noqa: E402
import onnx  # noqa: E402
import openvino  # noqa: E402
from _peer import Asked, Metric, run  # noqa: E402


def on_onnx(asked: Asked) -> None:
    """Quantize the ONNX model."""
    samples = asked.samples("calibration")
    model = onnx.load(asked.model)
    onnx.save(nncf.quantize(model, nncf.Dataset(samples)), asked.out / "model.onnx")


def on_openvino(asked: Asked) -> None:
    """Quantize the model as OpenVINO reads it."""
    samples = asked.samples("calibration")
    model = openvino.Core().read_model(asked.model)
    done = nncf.quantize(model, nncf.Dataset(samples, _by_position))
    openvino.save_model(done, asked.out / "model.xml")


def with_control(asked: Asked) -> float:
    """Quantize, and put back what costs more than a point of the task's metric."""
    calibration, selection = asked.samples("calibration"), asked.samples("selection")
    model = openvino.Core().read_model(asked.model)
    # By position, as runtimes do: a tensor of OpenVINO's may have several names.
    names = [str(index) for index in range(len(model.outputs))]
    metric = Metric(asked.metric)

    def validate(
        compiled: Any, items: Iterable[int]
    ) -> tuple[float, list[float] | None]:
        def outputs() -> Iterator[tuple[int, dict[str, Any]]]:
            request = compiled.create_infer_request()
            for index in items:
                results = request.infer(_by_position(selection[index])).values()
                yield index, dict(zip(names, results, strict=True))

        return metric.score(outputs())

    done = nncf.quantize_with_accuracy_control(
        model,
        nncf.Dataset(calibration, _by_position),
        nncf.Dataset(range(len(selection))),
        validate,
        max_drop=0.01,
        preset=nncf.QuantizationPreset.MIXED,
    )
    openvino.save_model(done, asked.out / "model.xml")
    metric.close()
    return metric.cpu_s


def _by_position(sample: dict[str, Any]) -> dict[int, Any]:
    return dict(enumerate(sample.values()))


run({"onnx": on_onnx, "openvino": on_openvino, "accuracy control": with_control})
