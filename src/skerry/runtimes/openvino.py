"""Models on OpenVINO's CPU plugin: the only door to that library."""

from __future__ import annotations

import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from skerry.core.errors import MissingExtraError
from skerry.core.model import Model, ModelFormat
from skerry.core.profile import Profile
from skerry.core.seams import Array, LoadOptions, Tensors
from skerry.runtimes._checks import (
    Abilities,
    check_inputs,
    check_load,
    check_profile,
    closed,
    failure,
    no_model,
)
from skerry.runtimes._session import ModelSession
from skerry.runtimes._times import Work, median_times
from skerry.runtimes.kernel_work import Shaped, count_bytes, count_macs

# `import openvino` alone sends an event to Google Analytics and leaves an identifier in
# the home folder, and no setting forbids it. It goes without where this package, which
# it installs, cannot be imported: so it cannot, until OpenVINO is there.
_TELEMETRY = "openvino_telemetry"
_telemetry = sys.modules.get(_TELEMETRY)
sys.modules[_TELEMETRY] = None  # type: ignore[assignment]
try:
    import openvino
    from openvino.frontend import FrontEndManager, GeneralFailure
except ImportError as error:
    raise MissingExtraError("openvino", extra="openvino") from error
finally:
    del sys.modules[_TELEMETRY]
    if _telemetry is not None:
        sys.modules[_TELEMETRY] = _telemetry

MOST_SHAPES = 4
"""Input shapes for which a dynamic model is compiled; any others share one more."""

_DTYPES = {
    "i8": "int8",
    "u8": "uint8",
    "bf16": "bfloat16",
    "f16": "float16",
    "f32": "float32",
}
"""What ends the name of a kernel: what it computes in."""

Shapes = tuple[tuple[int, ...], ...]
_ANY: Shapes = ()


@cache
def _core() -> Any:
    """The one core of this process, which lives as long.

    Its CPU plugin gives the thread that first uses it another signal stack, large
    enough for AMX, and takes it back in the thread that lets go of it last. Were that
    another one, which the garbage collector decides, the next signal would kill us.
    """
    return openvino.Core()


class OpenvinoSession(ModelSession):
    """A model loaded by OpenVINO; `run` may be called from several threads, one by one.

    OpenVINO runs a model faster when it knows the shapes of its inputs beforehand. So a
    model with free dimensions is compiled for each of the first few shapes that come
    along, and once more, with its dimensions free, for all others: compiling takes as
    long as many inferences, and a stream of ever new shapes must not pay it each time.

    Args:
        model: The model, for its signature and for messages.
        network: The model as OpenVINO read it.
        settings: Properties to compile with.
    """

    def __init__(self, model: Model, network: Any, settings: dict[str, Any]) -> None:
        super().__init__(model)
        self._network: Any = network
        self._settings = settings
        self._outputs = [spec.name for spec in model.outputs]
        self._core = _core()
        self._requests: dict[Shapes, Any] = {}
        self._lock = threading.Lock()
        self._is_static = all(spec.is_static for spec in model.inputs)
        if self._is_static:
            self._compile(_ANY)

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
                results = self._request(inputs).infer(
                    self._feed(inputs), share_inputs=True
                )
                # In the order of the model's outputs, each copied by `infer`. Names
                # would not do: OpenVINO gives one output those of several tensors.
                return dict(zip(self._outputs, results.values(), strict=True))
            except Exception as error:
                raise failure("openvino", "run", self._model, error) from error

    def close(self) -> None:
        """Give back what OpenVINO holds."""
        with self._lock:
            self._requests.clear()
            self._network = None

    def operator_times(self, inputs: Tensors) -> list[tuple[str, str, float]]:
        """Run one inference; name, type and mean milliseconds of what ran so far.

        Raises:
            RuntimeFailure: OpenVINO failed.
        """
        with self._lock:
            try:
                request = self._request(inputs)
                request.infer(self._feed(inputs))
                entries = request.profiling_info
            except Exception as error:
                raise failure("openvino", "run", self._model, error) from error
        return [
            (
                entry.node_name,
                f"{entry.node_type} {entry.exec_type}",
                entry.real_time.total_seconds() * 1e3,
            )
            for entry in entries
            if entry.status == openvino.ProfilingInfo.Status.EXECUTED
        ]

    def operator_work(self, inputs: Tensors) -> dict[str, Work]:
        """What each operator computes and moves, by its name, as OpenVINO runs it.

        Raises:
            RuntimeFailure: OpenVINO failed.
        """
        with self._lock:
            try:
                compiled = self._request(inputs).get_compiled_model()
                operators = compiled.get_runtime_model().get_ordered_ops()
                return {each.get_friendly_name(): _work(each) for each in operators}
            except Exception as error:
                raise failure("openvino", "run", self._model, error) from error

    def _feed(self, inputs: Tensors) -> dict[int, Array]:
        return {at: inputs[spec.name] for at, spec in enumerate(self.inputs)}

    def _request(self, inputs: Tensors) -> Any:
        """The compiled model for the shapes of these inputs, compiled if need be."""
        shapes = _ANY
        if not self._is_static:
            shapes = tuple(inputs[spec.name].shape for spec in self.inputs)
            known = self._requests.keys() - {_ANY}
            if shapes not in known and len(known) >= MOST_SHAPES:
                shapes = _ANY
        if shapes not in self._requests:
            self._compile(shapes)
        return self._requests[shapes]

    def _compile(self, shapes: Shapes) -> None:
        network = self._network
        if shapes:
            network = network.clone()
            network.reshape({at: list(shape) for at, shape in enumerate(shapes)})
        compiled = self._core.compile_model(network, "CPU", self._settings)
        self._requests[shapes] = compiled.create_infer_request()


class OpenvinoRuntime:
    """OpenVINO on the CPU; floats are computed in bf16 where the CPU has it."""

    name = "openvino"
    version: str = openvino.get_version().partition("-")[0]
    formats = frozenset({ModelFormat.ONNX, ModelFormat.TFLITE})

    def load(self, model: Model, options: LoadOptions) -> OpenvinoSession:
        """Load a model file.

        Raises:
            UsageError: The file is not there, or the options make no sense.
            ModelError: It is not an ONNX or TFLite model.
            RuntimeFailure: OpenVINO cannot load it.
        """
        return self._open(model, options, {})

    def profile(
        self, model: Model, inputs: Tensors, options: LoadOptions, *, repeats: int
    ) -> Profile:
        """Measure each operator's mean time with OpenVINO's own counters.

        They hold the mean of all inferences since the model was compiled, in whole
        microseconds: that of the first one, which still compiles kernels, is taken out.

        Raises:
            UsageError, DataError, ModelError, RuntimeFailure: As `load` and `run`
                do; and for fewer repeats than one.
        """
        check_profile(inputs, model.inputs, repeats)
        with closing(self._open(model, options, {"PERF_COUNT": True})) as session:
            first = session.operator_times(inputs)
            for _ in range(repeats - 1):
                session.run(inputs)
            means = session.operator_times(inputs)
            work = session.operator_work(inputs)
        cold = {(name, op_type): latency_ms for name, op_type, latency_ms in first}
        times: dict[tuple[str, str], list[float]] = {}
        for name, op_type, mean_ms in means:
            all_ms = mean_ms * (repeats + 1) - cold.get((name, op_type), mean_ms)
            times[name, op_type] = [max(0.0, all_ms / repeats)]
        return Profile(
            runtime=self.name,
            threads=options.threads,
            repeats=repeats,
            operators=median_times(
                times, _dtype_of, lambda name, _op_type: work.get(name, (None, None))
            ),
        )

    def _open(
        self, model: Model, options: LoadOptions, more: dict[str, Any]
    ) -> OpenvinoSession:
        check_load(model, options, Abilities(runtime=self.name, formats=self.formats))
        settings: dict[str, Any] = {
            "INFERENCE_NUM_THREADS": options.threads,
            "NUM_STREAMS": "1",
            "PERFORMANCE_HINT": "LATENCY",
            **more,
        }
        if options.precision == "float32":
            settings["INFERENCE_PRECISION_HINT"] = "f32"
        network = _read(model)
        try:
            return OpenvinoSession(model, network, settings)
        except Exception as error:
            raise failure(self.name, "load", model, error) from error


def _work(operator: Any) -> Work:
    """What an operator of the compiled model computes and moves."""
    # Its type is in the graph of execution only; there it is always the same class.
    kind = str(operator.get_rt_info()["layerType"].astype(str))
    ports = [_shaped(operator.inputs()), _shaped(operator.outputs())]
    if None in ports:
        return None, None
    inputs, outputs = (port or [] for port in ports)
    return count_macs(kind, inputs, outputs), count_bytes(inputs, outputs)


def _shaped(ports: Any) -> list[Shaped] | None:
    """The tensors at an operator's ports; None where a shape is not fixed."""
    if any(port.get_partial_shape().is_dynamic for port in ports):
        return None
    return [
        Shaped(dtype=port.get_element_type().to_string(), sizes=tuple(port.get_shape()))
        for port in ports
    ]


def _dtype_of(_name: str, op_type: str) -> str:
    """What a kernel computes in: the end of its type, as in jit_avx512_f32."""
    return _DTYPES.get(op_type.rpartition("_")[2].lower(), "")


def _read(model: Model) -> Any:
    # `Core.read_model` would let each of its frontends look at a file that is no model,
    # and TensorFlow's prints what it thinks of it.
    frontend = FrontEndManager().load_by_framework(model.format.value)
    try:
        with _named(model) as path:
            graph = frontend.load(str(path))
    except GeneralFailure as error:
        raise no_model(model) from error
    except Exception as error:
        raise failure("openvino", "load", model, error) from error
    try:
        return frontend.convert(graph)
    except Exception as error:
        raise failure("openvino", "load", model, error) from error


@contextmanager
def _named(model: Model) -> Iterator[Path]:
    """The model's file, under a name that its frontend takes: TFLite's goes by that.

    A slot of a gateway calls every model alike.
    """
    if model.format is not ModelFormat.TFLITE or model.path.suffix == ".tflite":
        yield model.path
        return
    with tempfile.TemporaryDirectory(prefix="skerry-") as folder:
        link = Path(folder) / f"{model.path.stem}.tflite"
        link.symlink_to(model.path.absolute())
        yield link
