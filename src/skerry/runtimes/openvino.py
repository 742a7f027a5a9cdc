"""Models on OpenVINO's CPU plugin: the only door to that library."""

from __future__ import annotations

import statistics
import sys
import threading
from collections import OrderedDict, defaultdict
from typing import Any

import numpy as np

from skerry.core.errors import MissingExtraError
from skerry.core.model import Model, TensorSpec
from skerry.core.profile import OperatorTime, Profile
from skerry.core.seams import Array, LoadOptions, Tensors
from skerry.runtimes._checks import check_file, check_inputs, closed, failure

# `import openvino` alone sends an event to Google Analytics and leaves an identifier in
# the home folder, and no setting forbids it. It goes without where this package, which
# it installs, cannot be imported: so it cannot, until OpenVINO is there.
_TELEMETRY = "openvino_telemetry"
_telemetry = sys.modules.get(_TELEMETRY)
sys.modules[_TELEMETRY] = None  # type: ignore[assignment]
try:
    import openvino
except ImportError as error:
    raise MissingExtraError("openvino", extra="openvino") from error
finally:
    del sys.modules[_TELEMETRY]
    if _telemetry is not None:
        sys.modules[_TELEMETRY] = _telemetry

MOST_SHAPES = 4
"""Input shapes for which a dynamic model is kept compiled; the oldest goes first."""

Shapes = tuple[tuple[str, tuple[int, ...]], ...]


class OpenvinoSession:
    """A model loaded by OpenVINO; `run` may be called from several threads, one by one.

    A model with free dimensions is compiled for each shape of its inputs that comes
    along: OpenVINO runs fixed shapes faster, and compiles them in well under a second.

    Args:
        model: The model, for its signature and for messages.
        core: OpenVINO.
        network: The model as OpenVINO read it.
        settings: Properties to compile with.
    """

    def __init__(
        self, model: Model, core: Any, network: Any, settings: dict[str, Any]
    ) -> None:
        self._model = model
        self._core = core
        self._network: Any = network
        self._settings = settings
        self._requests: OrderedDict[Shapes, Any] = OrderedDict()
        self._lock = threading.Lock()
        if all(spec.is_static for spec in model.inputs):
            self._request(tuple((spec.name, spec.shape) for spec in model.inputs))  # type: ignore[misc]

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The model's inputs, in order."""
        return self._model.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The model's outputs, in order."""
        return self._model.outputs

    def run(self, inputs: Tensors) -> dict[str, Array]:
        """Run one inference.

        Raises:
            DataError: An input is missing, unknown, or of another dtype or shape.
            RuntimeFailure: OpenVINO failed, or the session is closed.
        """
        check_inputs(inputs, self.inputs)
        with self._lock:
            if self._network is None:
                raise closed("openvino", self._model)
            try:
                results = self._infer(inputs).results
                # OpenVINO writes the next inference into the same memory.
                return {
                    spec.name: np.array(results[index])
                    for index, spec in enumerate(self.outputs)
                }
            except Exception as error:
                raise failure("openvino", "run", self._model, error) from error

    def close(self) -> None:
        """Give back what OpenVINO holds."""
        with self._lock:
            self._requests.clear()
            self._network = None

    def operator_times(self, inputs: Tensors) -> list[tuple[str, str, float]]:
        """Run one inference; name, type and milliseconds of each operator that ran."""
        with self._lock:
            request = self._infer(inputs)
            return [
                (
                    entry.node_name,
                    entry.exec_type,
                    entry.real_time.total_seconds() * 1e3,
                )
                for entry in request.profiling_info
                if str(entry.status).endswith("EXECUTED")
            ]

    def _infer(self, inputs: Tensors) -> Any:
        shapes = tuple((spec.name, inputs[spec.name].shape) for spec in self.inputs)
        request = self._request(shapes)
        request.infer({spec.name: inputs[spec.name] for spec in self.inputs})
        return request

    def _request(self, shapes: Shapes) -> Any:
        if shapes in self._requests:
            self._requests.move_to_end(shapes)
            return self._requests[shapes]
        network = self._network.clone()
        if any(not spec.is_static for spec in self.inputs):
            network.reshape({name: list(shape) for name, shape in shapes})
        compiled = self._core.compile_model(network, "CPU", self._settings)
        self._requests[shapes] = compiled.create_infer_request()
        if len(self._requests) > MOST_SHAPES:
            self._requests.popitem(last=False)
        return self._requests[shapes]


class OpenvinoRuntime:
    """OpenVINO on the CPU; floats are computed in bf16 where the CPU has it."""

    name = "openvino"
    version: str = openvino.get_version()

    def load(self, model: Model, options: LoadOptions) -> OpenvinoSession:
        """Load a model file.

        Raises:
            UsageError: The file is not there.
            RuntimeFailure: OpenVINO cannot load it.
        """
        return self._open(model, options, {})

    def profile(
        self, model: Model, inputs: Tensors, options: LoadOptions, *, repeats: int
    ) -> Profile:
        """Measure each operator's median time with OpenVINO's own counters.

        Raises:
            UsageError, DataError, RuntimeFailure: As `load` and `run` do.
        """
        session = self._open(model, options, {"PERF_COUNT": True})
        session.run(inputs)
        times: dict[tuple[str, str], list[float]] = defaultdict(list)
        for _ in range(repeats):
            for name, op_type, latency_ms in session.operator_times(inputs):
                times[name, op_type].append(latency_ms)
        session.close()
        return Profile(
            runtime=self.name,
            threads=options.threads,
            repeats=repeats,
            operators=tuple(
                OperatorTime(
                    name=name, op_type=op_type, latency_ms=statistics.median(values)
                )
                for (name, op_type), values in times.items()
            ),
        )

    def _open(
        self, model: Model, options: LoadOptions, more: dict[str, Any]
    ) -> OpenvinoSession:
        check_file(model)
        settings: dict[str, Any] = {
            "INFERENCE_NUM_THREADS": options.threads,
            "NUM_STREAMS": "1",
            "PERFORMANCE_HINT": "LATENCY",
            **more,
        }
        if options.precision == "float32":
            settings["INFERENCE_PRECISION_HINT"] = "f32"
        try:
            core = openvino.Core()
            network = core.read_model(str(model.path))
            return OpenvinoSession(model, core, network, settings)
        except Exception as error:
            raise failure(self.name, "load", model, error) from error
