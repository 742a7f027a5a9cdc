"""Models on onnxruntime's CPU execution provider: the only door to that library."""

from __future__ import annotations

import json
import os
import statistics
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

from skerry.core.errors import MissingExtraError
from skerry.core.model import Model, TensorSpec
from skerry.core.profile import OperatorTime, Profile
from skerry.core.seams import Array, LoadOptions, Tensors
from skerry.runtimes._checks import (
    check_inputs,
    check_load,
    check_profile,
    closed,
    failure,
    no_model,
)

# From 1.29 on the wheel reports to Microsoft, and leaves an identifier in the home
# folder, unless this is set before it is imported (Privacy.md in the wheel).
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
try:
    import onnxruntime as ort
    from onnxruntime.capi.onnxruntime_pybind11_state import InvalidProtobuf
except ImportError as error:
    raise MissingExtraError("onnxruntime", extra="onnxruntime") from error

_FATAL_ONLY = 4
_WARMUP = 1
_PROVIDERS = ["CPUExecutionProvider"]
_NODE_SUFFIX = "_kernel_time"
_DTYPES = {"float": "float32", "double": "float64"}


class OnnxSession:
    """A model loaded by onnxruntime; `run` may be called from several threads.

    Args:
        model: The model, for its signature and for messages.
        session: What onnxruntime made of it.
    """

    def __init__(self, model: Model, session: ort.InferenceSession) -> None:
        self._model = model
        self._session: ort.InferenceSession | None = session
        self._outputs = [spec.name for spec in model.outputs]

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
            RuntimeFailure: onnxruntime failed, or the session is closed.
        """
        check_inputs(inputs, self.inputs)
        session = self._session
        if session is None:
            raise closed("onnxruntime", self._model)
        try:
            results = session.run(self._outputs, dict(inputs))
        except Exception as error:
            raise failure("onnxruntime", "run", self._model, error) from error
        return dict(zip(self._outputs, results, strict=True))

    def close(self) -> None:
        """Give back the session's memory."""
        self._session = None


class OnnxRuntime:
    """onnxruntime on the CPU; float tensors are always computed in float32."""

    name = "onnxruntime"
    version: str = ort.__version__

    def load(self, model: Model, options: LoadOptions) -> OnnxSession:
        """Load a model file.

        Raises:
            UsageError: The file is not there, or the options make no sense.
            ModelError: It is not an ONNX model.
            RuntimeFailure: onnxruntime cannot load it.
        """
        check_load(model, options)
        return OnnxSession(model, self._open(model, _session_options(options)))

    def profile(
        self, model: Model, inputs: Tensors, options: LoadOptions, *, repeats: int
    ) -> Profile:
        """Measure each kernel's median time with onnxruntime's own profiler.

        The profiler gives whole microseconds and adds about a tenth to the total.

        Raises:
            UsageError, DataError, ModelError, RuntimeFailure: As `load` and `run`
                do; and for fewer repeats than one.
        """
        check_load(model, options)
        check_profile(inputs, model.inputs, repeats)
        settings = _session_options(options)
        settings.enable_profiling = True
        with tempfile.TemporaryDirectory(prefix="skerry-") as folder:
            settings.profile_file_prefix = str(Path(folder) / "profile")
            session = self._open(model, settings)
            try:
                for _ in range(_WARMUP + repeats):
                    session.run(None, dict(inputs))
            except Exception as error:
                raise failure(self.name, "run", model, error) from error
            finally:
                trace = Path(session.end_profiling())
            events = json.loads(trace.read_bytes())
        return Profile(
            runtime=self.name,
            threads=options.threads,
            repeats=repeats,
            operators=_operator_times(events),
        )

    def _open(self, model: Model, settings: ort.SessionOptions) -> ort.InferenceSession:
        try:
            return ort.InferenceSession(str(model.path), settings, providers=_PROVIDERS)
        except InvalidProtobuf as error:
            raise no_model(model) from error
        except Exception as error:
            raise failure(self.name, "load", model, error) from error


def _session_options(options: LoadOptions) -> ort.SessionOptions:
    settings = ort.SessionOptions()
    settings.intra_op_num_threads = options.threads
    settings.inter_op_num_threads = 1
    # What it would log as an error it raises too; a result's talk is not its to print.
    settings.log_severity_level = _FATAL_ONLY
    # Threads that spin between inferences take the CPU from whoever runs beside us.
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return settings


def _operator_times(events: list[dict[str, Any]]) -> tuple[OperatorTime, ...]:
    """Median time by kernel, in order of execution, without the warm-up."""
    times: dict[tuple[str, str], list[float]] = defaultdict(list)
    dtypes: dict[tuple[str, str], str] = {}
    for event in events:
        name = event.get("name", "")
        if event.get("cat") == "Node" and name.endswith(_NODE_SUFFIX):
            key = name.removesuffix(_NODE_SUFFIX), event["args"]["op_name"]
            times[key].append(event["dur"] / 1000)
            dtypes[key] = _first_dtype(event["args"].get("input_type_shape", []))
    return tuple(
        OperatorTime(
            name=name,
            op_type=op_type,
            latency_ms=statistics.median(values[_WARMUP:] or values),
            dtype=dtypes[name, op_type],
        )
        for (name, op_type), values in times.items()
    )


def _first_dtype(shapes: list[dict[str, Any]]) -> str:
    """The type of what a kernel reads first, of shapes by type; empty for none."""
    first = next(iter(shapes[0]), "") if shapes else ""
    return _DTYPES.get(first, first)
