"""Models on ncnn, on the CPU: the only door to that library."""

from __future__ import annotations

import re
import time
from collections import defaultdict
from contextlib import closing
from dataclasses import replace
from typing import Any

import numpy as np

from skerry.core.errors import MissingExtraError
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
)
from skerry.runtimes._ncnn_file import read_ncnn
from skerry.runtimes._session import ModelSession
from skerry.runtimes._stderr import captured_stderr
from skerry.runtimes._times import median_times

try:
    import ncnn
except ImportError as error:
    raise MissingExtraError("ncnn", extra="ncnn") from error

_TALK = re.compile("")
"""ncnn prints only when it refuses, in no form of its own."""


class NcnnSession(ModelSession):
    """A model loaded by ncnn; `run` may be called from several threads at once.

    ncnn has no batch axis: its tensors are shown with one of size 1 in front.

    Args:
        model: The model, for its signature and for messages.
        net: What ncnn made of it.
    """

    def __init__(self, model: Model, net: Any) -> None:
        super().__init__(model)
        self._net: Any = net

    def run(self, inputs: Tensors) -> dict[str, Array]:
        """Run one inference.

        Raises:
            DataError: An input is missing, unknown, or of another dtype or shape.
            RuntimeFailure: ncnn failed, or the session is closed.
        """
        net = self._begin(inputs)
        with _extractor(net, inputs, is_light=True) as extractor:
            return {spec.name: self._extract(extractor, spec) for spec in self.outputs}

    def close(self) -> None:
        """Give back what ncnn holds, once what still runs has ended."""
        self._net = None

    def layer_times(self, inputs: Tensors) -> list[tuple[str, str, float]]:
        """Run layer after layer; name, type and milliseconds of each.

        Raises:
            DataError: An input is missing, unknown, or of another dtype or shape.
            RuntimeFailure: ncnn failed, or the session is closed.
        """
        net = self._begin(inputs)
        blobs = [blob.name for blob in net.blobs()]
        times = []
        with _extractor(net, inputs, is_light=False) as extractor:
            for layer in net.layers():
                if layer.type == "Input":
                    continue
                began_s = time.perf_counter()
                for top in layer.tops:
                    self._find(extractor, blobs[top])
                took_ms = (time.perf_counter() - began_s) * 1000
                times.append((layer.name, layer.type, took_ms))
        return times

    def _begin(self, inputs: Tensors) -> Any:
        check_inputs(inputs, self.inputs)
        if (net := self._net) is None:
            raise closed("ncnn", self._model)
        return net

    def _extract(self, extractor: Any, spec: TensorSpec) -> Array:
        found = self._find(extractor, spec.name)
        if not found.empty():
            # A copy: the memory behind it goes back with the extractor.
            return np.array(found, np.float32)[np.newaxis]
        if spec.is_static:
            raise failure("ncnn", "run", self._model, _nothing(spec.name))
        sizes = [size if isinstance(size, int) else 0 for size in spec.shape]
        return np.zeros(sizes, np.float32)

    def _find(self, extractor: Any, name: str) -> Any:
        code, found = extractor.extract(name)
        if code:
            raise failure("ncnn", "run", self._model, _nothing(name, code))
        return found


class NcnnRuntime:
    """ncnn on the CPU; floats are kept in fp16 where the CPU computes in it.

    A model is two files, `NAME.param` with `NAME.bin` beside it, or both packed into
    one as a release carries them. The text of the first is checked before ncnn sees it;
    a `.bin` is numbers without any mark, so other weights of enough bytes load as well.
    Files that nobody vouches for belong into a process of their own.
    """

    name = "ncnn"
    version: str = ncnn.__version__
    formats = frozenset({ModelFormat.NCNN})

    def load(self, model: Model, options: LoadOptions) -> NcnnSession:
        """Load a model's files.

        Raises:
            UsageError: A file is not there, or the options make no sense.
            ModelError: It is not an ncnn model.
            RuntimeFailure: ncnn cannot load it.
        """
        check_load(model, options, Abilities(runtime=self.name, formats=self.formats))
        file = read_ncnn(model.path)
        check_signature(model, self.name, file.inputs, file.outputs)
        net = ncnn.Net()
        _set_options(net.opt, options)
        try:
            with captured_stderr(_TALK) as said:
                code = net.load_param_mem(file.text)
                code = code or net.load_model(str(file.weights))
        except Exception as error:
            raise failure(self.name, "load", model, error) from error
        if code:
            reason = "; ".join(said) or f"code {code}"
            raise failure(self.name, "load", model, RuntimeError(reason))
        return NcnnSession(model, net)

    def profile(
        self, model: Model, inputs: Tensors, options: LoadOptions, *, repeats: int
    ) -> Profile:
        """Measure each layer's median time, by asking for one layer after the other.

        What a layer gives is brought into numpy's form each time, which the whole
        inference does only for its outputs: small layers look slower than they are.

        Raises:
            UsageError, DataError, ModelError, RuntimeFailure: As `load` and `run`
                do; and for fewer repeats than one.
        """
        times: dict[tuple[str, str], list[float]] = defaultdict(list)
        with closing(self.load(model, options)) as session:
            check_profile(inputs, model.inputs, repeats)
            session.run(inputs)
            for _ in range(repeats):
                for name, kind, latency_ms in session.layer_times(inputs):
                    times[name, kind].append(latency_ms)
        return Profile(
            runtime=self.name,
            threads=options.threads,
            repeats=repeats,
            operators=median_times(times),
        )


def with_outputs(model: Model) -> Model:
    """Complete a model's outputs, whose shapes its files do not say: run it once.

    Raises:
        ModelError: ncnn cannot load it.
        RuntimeFailure: It cannot run on inputs of these shapes.
    """
    specs = {spec.name: spec for spec in model.outputs}
    names = list(read_ncnn(model.path).outputs)
    unknown = [name for name in names if name not in specs]
    asked = replace(
        model,
        outputs=tuple(
            TensorSpec(name=name, dtype="float32", shape=()) for name in unknown
        ),
    )
    with closing(NcnnRuntime().load(asked, LoadOptions())) as session:
        outputs = session.run(
            {
                spec.name: np.zeros(
                    [size for size in spec.shape if isinstance(size, int)], np.float32
                )
                for spec in model.inputs
            }
        )
    for name, output in outputs.items():
        specs[name] = TensorSpec(name=name, dtype="float32", shape=output.shape)
    return replace(model, outputs=tuple(specs[name] for name in names))


def _nothing(name: str, code: int = 0) -> RuntimeError:
    return RuntimeError(f"it gives no {name!r} (code {code})")


def _set_options(opt: Any, options: LoadOptions) -> None:
    opt.num_threads = options.threads
    opt.use_vulkan_compute = False
    # Threads that spin between inferences take the CPU from whoever runs beside us.
    opt.openmp_blocktime = 0
    if options.precision == "float32":
        opt.use_fp16_packed = opt.use_fp16_storage = opt.use_fp16_arithmetic = False
        opt.use_bf16_packed = opt.use_bf16_storage = False


def _extractor(net: Any, inputs: Tensors, *, is_light: bool) -> Any:
    extractor = net.create_extractor()
    extractor.set_light_mode(is_light)
    for name, array in inputs.items():
        # A Mat only borrows the array: a copy of it owns what it reads.
        borrowed = np.ascontiguousarray(array[0])
        extractor.input(name, ncnn.Mat(borrowed).clone())
    return extractor
