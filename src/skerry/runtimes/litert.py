"""TFLite models on LiteRT's CPU kernels: the only door to that library."""

from __future__ import annotations

import re
import threading
from typing import Any

from skerry.core.errors import MissingExtraError, RuntimeFailure
from skerry.core.model import Model, ModelFormat, TensorSpec
from skerry.core.profile import Profile
from skerry.core.seams import Array, LoadOptions, Tensors
from skerry.runtimes._checks import (
    Abilities,
    check_inputs,
    check_load,
    check_profile,
    check_signature,
    closed,
    failure,
    no_model,
)
from skerry.runtimes._session import ModelSession
from skerry.runtimes._stderr import captured_stderr
from skerry.runtimes._tflite_file import read_tflite

try:
    import ai_edge_litert
    from ai_edge_litert.interpreter import Interpreter
except ImportError as error:
    raise MissingExtraError("litert", extra="litert") from error

_TALK = re.compile(r"(?:INFO|WARNING|ERROR|VERBOSE): |[IWEF]\d{4} ")
"""Lines of TFLite's own logger, and of the one below it."""

Shapes = tuple[tuple[int, ...], ...]


class LitertSession(ModelSession):
    """A model loaded by LiteRT; `run` may be called from several threads, one by one.

    A model with free dimensions takes the shapes of each input that comes along; LiteRT
    plans its memory anew whenever they change.

    Args:
        model: The model, for its signature and for messages.
        interpreter: What LiteRT made of it.
        tensors: The numbers of its inputs' and outputs' tensors, by name.
    """

    def __init__(
        self, model: Model, interpreter: Any, tensors: tuple[dict[str, int], ...]
    ) -> None:
        super().__init__(model)
        self._interpreter: Any = interpreter
        self._inputs, self._outputs = tensors
        self._shapes: Shapes | None = None
        self._lock = threading.Lock()
        # Also where dimensions are free: what cannot be run at all shows already here.
        interpreter.allocate_tensors()
        if all(spec.is_static for spec in model.inputs):
            self._shapes = tuple(_static(spec) for spec in model.inputs)

    def run(self, inputs: Tensors) -> dict[str, Array]:
        """Run one inference.

        Raises:
            DataError: An input is missing, unknown, or of another dtype or shape.
            RuntimeFailure: LiteRT failed, or the session is closed.
        """
        check_inputs(inputs, self.inputs)
        with self._lock:
            if self._interpreter is None:
                raise closed("litert", self._model)
            try:
                self._resize(inputs)
                for name, array in inputs.items():
                    self._interpreter.set_tensor(self._inputs[name], array)
                self._interpreter.invoke()
                return {
                    spec.name: self._interpreter.get_tensor(self._outputs[spec.name])
                    for spec in self.outputs
                }
            except Exception as error:
                raise failure("litert", "run", self._model, error) from error

    def close(self) -> None:
        """Give back what LiteRT holds."""
        with self._lock:
            self._interpreter = None

    def _resize(self, inputs: Tensors) -> None:
        shapes = tuple(inputs[spec.name].shape for spec in self.inputs)
        if shapes == self._shapes:
            return
        # Should it fail midway, the next inference must not believe in these shapes.
        self._shapes = None
        for spec, shape in zip(self.inputs, shapes, strict=True):
            self._interpreter.resize_tensor_input(self._inputs[spec.name], shape)
        self._interpreter.allocate_tensors()
        self._shapes = shapes


class LitertRuntime:
    """LiteRT on the CPU; floats are computed in float32, by XNNPACK where it can.

    LiteRT checks that a file is a whole FlatBuffer, not that what is in it makes sense:
    files that nobody vouches for belong into a process of their own.
    """

    name = "litert"
    version: str = ai_edge_litert.__version__
    formats = frozenset({ModelFormat.TFLITE})

    def load(self, model: Model, options: LoadOptions) -> LitertSession:
        """Load a model file.

        Raises:
            UsageError: The file is not there, or the options make no sense.
            ModelError: It is not a TFLite model.
            RuntimeFailure: LiteRT cannot load it.
        """
        check_load(model, options, Abilities(runtime=self.name, formats=self.formats))
        file = read_tflite(model.path)
        tensors = tuple(
            {port.spec.name: port.tensor for port in ports}
            for ports in (file.inputs, file.outputs)
        )
        check_signature(model, self.name, *tensors)
        try:
            with captured_stderr(_TALK):
                interpreter = Interpreter(
                    model_path=str(model.path), num_threads=options.threads
                )
                return LitertSession(model, interpreter, tensors)
        except ValueError as error:
            raise no_model(model) from error
        except Exception as error:
            raise failure(self.name, "load", model, error) from error

    def profile(
        self, model: Model, inputs: Tensors, options: LoadOptions, *, repeats: int
    ) -> Profile:
        """Refuse: LiteRT's Python package does not tell what each operator takes.

        Raises:
            UsageError, DataError: As `load` and `run` do; and for fewer repeats than
                one.
            RuntimeFailure: Always, otherwise.
        """
        check_load(model, options, Abilities(runtime=self.name, formats=self.formats))
        check_profile(inputs, model.inputs, repeats)
        raise RuntimeFailure(
            "litert's Python package does not tell how long each operator takes",
            hint="Profile the model on openvino, which takes TFLite files too.",
        )


def _static(spec: TensorSpec) -> tuple[int, ...]:
    return tuple(size for size in spec.shape if isinstance(size, int))
