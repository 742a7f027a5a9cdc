"""Models on onnxruntime and its execution providers: the only door to that library."""

from __future__ import annotations

import logging
import os
import re
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from skerry.core.errors import MissingExtraError, RuntimeFailure, UsageError
from skerry.core.model import Model, ModelFormat
from skerry.core.names import did_you_mean
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
from skerry.runtimes._reasons import plain_reason
from skerry.runtimes._session import ModelSession
from skerry.runtimes._stderr import captured_stderr

if TYPE_CHECKING:
    from skerry.core.profile import Profile

# From 1.29 on the wheel reports to Microsoft, and leaves an identifier in the home
# folder, unless this is set before it is imported (Privacy.md in the wheel).
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
try:
    import onnxruntime as ort
    from onnxruntime.capi.onnxruntime_pybind11_state import InvalidProtobuf
except ImportError as error:
    raise MissingExtraError("onnxruntime", extra="onnxruntime") from error

log = logging.getLogger(__name__)

_FATAL_ONLY = 4
_CPU = "CPUExecutionProvider"
_PROVIDER = "ExecutionProvider"
_TALK = re.compile(
    r"(?:\x1b\[[0-9;]*m)?(?:\d{4}-\d\d-\d\d [\d:.]+ \[[VIWEF]:onnxruntime|\s*$)"
)
"""Lines that onnxruntime prints when a provider fails to start, and their ends."""


class OnnxSession(ModelSession):
    """A model loaded by onnxruntime; `run` may be called from several threads.

    Args:
        model: The model, for its signature and for messages.
        session: What onnxruntime made of it.
        fallbacks: Why it does not run on providers that were wished for.
    """

    def __init__(
        self,
        model: Model,
        session: ort.InferenceSession,
        fallbacks: tuple[str, ...] = (),
    ) -> None:
        super().__init__(model)
        self.fallbacks = fallbacks
        """A sentence for each execution provider that was wished for in vain."""
        self.providers: tuple[str, ...] = tuple(map(_short, session.get_providers()))
        """The execution providers that it has, in order and in short, as `cpu`."""
        self._session: ort.InferenceSession | None = session
        self._outputs = [spec.name for spec in model.outputs]

    def run(self, inputs: Tensors) -> dict[str, Array]:
        """Run one inference.

        Raises:
            DataError: An input is missing, unknown, or of another dtype or shape.
            RuntimeFailure: onnxruntime failed, or the session is closed.
        """
        check_inputs(inputs, self.inputs)
        session = self.native()
        try:
            results = session.run(self._outputs, dict(inputs))
        except Exception as error:
            raise failure("onnxruntime", "run", self._model, error) from error
        return dict(zip(self._outputs, results, strict=True))

    def close(self) -> None:
        """Give back the session's memory."""
        self._session = None

    def native(self) -> ort.InferenceSession:
        """Onnxruntime's own session.

        Raises:
            RuntimeFailure: It is closed.
        """
        if self._session is None:
            raise closed("onnxruntime", self._model)
        return self._session


class OnnxRuntime:
    """onnxruntime, on the CPU unless other execution providers are wished for.

    On the CPU float tensors are always computed in float32.
    """

    name = "onnxruntime"
    version: str = ort.__version__
    formats = frozenset({ModelFormat.ONNX})

    def load(self, model: Model, options: LoadOptions) -> OnnxSession:
        """Load a model file.

        Raises:
            UsageError: The file is not there, the options make no sense, or nobody
                knows an execution provider of that name.
            ModelError: It is not an ONNX model.
            RuntimeFailure: onnxruntime cannot load it.
        """
        self._check(model, options)
        settings = _session_options(model, options)
        return self._open(model, settings, options.providers)

    def profile(
        self, model: Model, inputs: Tensors, options: LoadOptions, *, repeats: int
    ) -> Profile:
        """Measure each kernel's median time with onnxruntime's own profiler.

        The profiler gives whole microseconds and adds about a tenth to the total.

        Raises:
            UsageError, DataError, ModelError, RuntimeFailure: As `load` and `run`
                do; and for fewer repeats than one.
        """
        # Most who load a model never ask for its profile.
        from skerry.core.profile import Profile
        from skerry.runtimes._onnxruntime_times import WARMUP, operator_times

        self._check(model, options)
        check_profile(inputs, model.inputs, repeats)
        settings = _session_options(model, options)
        settings.enable_profiling = True
        with tempfile.TemporaryDirectory(prefix="skerry-") as folder:
            settings.profile_file_prefix = str(Path(folder) / "profile")
            opened = self._open(model, settings, options.providers)
            session = opened.native()
            try:
                for _ in range(WARMUP + repeats):
                    session.run(None, dict(inputs))
            except Exception as error:
                raise failure(self.name, "run", model, error) from error
            finally:
                trace = Path(session.end_profiling())
            content = trace.read_bytes()
        return Profile(
            runtime=self.name,
            threads=options.threads,
            repeats=repeats,
            operators=operator_times(content),
        )

    def _check(self, model: Model, options: LoadOptions) -> None:
        able = Abilities(
            runtime=self.name,
            formats=self.formats,
            has_providers=True,
            has_libraries=True,
        )
        check_load(model, options, able)

    def _open(
        self, model: Model, settings: ort.SessionOptions, wished: Sequence[str]
    ) -> OnnxSession:
        """Open a session on as many of the providers as there are, the CPU last.

        onnxruntime would print of those that fail, and tell the caller nothing.
        """
        names = [name for name in dict.fromkeys(map(_full, wished)) if name != _CPU]
        available = set(ort.get_available_providers())
        chosen = [name for name in names if name in available]
        reasons = dict.fromkeys(names, "is not in this build of onnxruntime")
        said: list[str] = []
        while True:
            try:
                with captured_stderr(_TALK) if chosen else nullcontext(said) as said:
                    session = ort.InferenceSession(
                        str(model.path),
                        settings,
                        providers=[*chosen, _CPU],
                        enable_fallback=0,
                    )
                break
            except InvalidProtobuf as error:
                raise no_model(model) from error
            except Exception as error:
                if not chosen:
                    raise failure(self.name, "load", model, error) from error
                reasons[chosen.pop(0)] = f"failed: {plain_reason(str(error))}"
        real = session.get_providers()
        reasons |= {name: f"failed: {_why(said)}" for name in chosen}
        fallbacks = tuple(
            f"{_short(name)} {reasons[name]}" for name in names if name not in real
        )
        for fallback in fallbacks:
            log.warning(
                "runtime.fallback", extra={"model": model.path.name, "why": fallback}
            )
        return OnnxSession(model, session, fallbacks)


def _why(said: Sequence[str]) -> str:
    """What onnxruntime prints of a provider that it leaves out."""
    for line in said:
        _, sign, reason = line.partition("with error: ")
        if sign:
            return plain_reason(reason)
    return "it could not be set up here"


def _short(provider: str) -> str:
    return provider.removesuffix(_PROVIDER).lower()


def _full(wished: str) -> str:
    """A provider's name in full.

    Raises:
        UsageError: onnxruntime knows none of that name.
    """
    known = {_short(name): name for name in ort.get_all_providers()}
    short = wished.lower().removesuffix(_PROVIDER.lower())
    if short not in known:
        raise UsageError(
            f"onnxruntime has no execution provider called {wished[:80]!r}",
            hint=did_you_mean(short, known),
        )
    return str(known[short])


def _session_options(model: Model, options: LoadOptions) -> ort.SessionOptions:
    settings = ort.SessionOptions()
    settings.intra_op_num_threads = options.threads
    settings.inter_op_num_threads = 1
    # What it would log as an error it raises too; a result's talk is not its to print.
    settings.log_severity_level = _FATAL_ONLY
    # Threads that spin between inferences take the CPU from whoever runs beside us.
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    for library in options.libraries:
        try:
            settings.register_custom_ops_library(str(library))
        except Exception as error:
            raise RuntimeFailure(
                f"onnxruntime cannot load {model.path.name}: the library of operators "
                f"{library.name} cannot be taken in: {plain_reason(str(error))}",
                hint="Build it for this machine and this version of onnxruntime.",
            ) from error
    return settings
