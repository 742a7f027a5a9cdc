"""Every Protocol that crosses rooms."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from numpy.typing import NDArray

from skerry.core.model import Model, TensorSpec

if TYPE_CHECKING:
    # Who loads a model need not wait for what describes hardware, or pictures.
    from skerry.core.compiled import Compiled
    from skerry.core.profile import Profile
    from skerry.core.target import Target
    from skerry.core.video import Attention, CameraHealth, Shot

Array = NDArray[Any]
Tensors = Mapping[str, Array]
"""Arrays by the name of the model's input or output."""

Precision = Literal["default", "float32"]
"""What a runtime may compute float tensors in: `default` leaves it to the runtime
(OpenVINO takes bf16 where the CPU has it), `float32` forbids less."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """How a runtime loads a model.

    Attributes:
        threads: CPU threads for one inference.
        precision: What float tensors may be computed in.
        providers: onnxruntime's execution providers in order of wish, in short (`cuda`,
            `coreml`) or in full; the CPU comes last by itself. One that is not here is
            passed over, with a warning.
        libraries: Files with operators that the runtime itself has not.
    """

    threads: int = 1
    precision: Precision = "default"
    providers: tuple[str, ...] = ()
    libraries: tuple[Path, ...] = ()


class Session(Protocol):
    """A loaded model, ready to run."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The model's inputs, in order."""
        ...

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The model's outputs, in order."""
        ...

    def run(self, inputs: Tensors) -> dict[str, Array]:
        """Run one inference.

        Args:
            inputs: One array an input, of its dtype and a shape it accepts.

        Returns:
            One array an output, by name; the caller owns them.

        Raises:
            DataError: An input is missing, unknown, or of another dtype or shape.
            RuntimeFailure: The runtime failed.
        """
        ...

    def close(self) -> None:
        """Give back what the runtime holds; the session is not used after."""
        ...


class Runtime(Protocol):
    """Something that runs models."""

    @property
    def name(self) -> str:
        """The name by which the command line knows it."""
        ...

    @property
    def version(self) -> str:
        """The version of the library behind it."""
        ...

    def load(self, model: Model, options: LoadOptions) -> Session:
        """Load a model file.

        Raises:
            MissingExtraError: The library behind it is not installed.
            ModelError: The file cannot be read or is not a model.
            RuntimeFailure: The runtime cannot run this model.
        """
        ...

    def profile(
        self, model: Model, inputs: Tensors, options: LoadOptions, *, repeats: int
    ) -> Profile:
        """Measure each operator's time over a number of inferences, the first left out.

        Raises:
            The errors of `load` and of `Session.run`.
        """
        ...


class Toolchain(Protocol):
    """A vendor's compiler."""

    @property
    def name(self) -> str:
        """The name by which the command line knows it."""
        ...

    @property
    def version(self) -> str:
        """The compiler and its version.

        Raises:
            ToolchainError: It is not installed, or an older one is.
        """
        ...

    def compile(
        self, model: Model, target: Target, out: Path | None = None
    ) -> Compiled:
        """Compile a model for a target.

        Args:
            model: A model of the format that the compiler takes.
            target: What to compile for.
            out: Where the compiled model is put; None keeps none.

        Raises:
            ModelError: The model is of another format, or cannot be compiled.
            TargetError: The compiler does not compile for this target.
            ToolchainError: The compiler is not installed, too old, or failed.
        """
        ...


GraphT = TypeVar("GraphT")
ModuleT = TypeVar("ModuleT")
GraphT_co = TypeVar("GraphT_co", covariant=True)
ContextT_contra = TypeVar("ContextT_contra", contravariant=True)


class Importer(Protocol[GraphT_co]):
    """Reads the files of another framework."""

    @property
    def name(self) -> str:
        """The name by which the command line knows it."""
        ...

    def accepts(self, head: bytes) -> bool:
        """Whether a file that begins with these bytes is one of those it reads."""
        ...

    def read(self, path: Path) -> GraphT_co:
        """Read a file as a graph.

        Raises:
            UsageError: It cannot be read.
            ModelError: It is damaged, or uses what is not handled.
            MissingExtraError: The library behind it is not installed.
        """
        ...


class Step(Protocol[GraphT, ContextT_contra]):
    """One step of a recipe: a graph in, another out; writing is the caller's."""

    def apply(self, graph: GraphT, context: ContextT_contra) -> GraphT:
        """Return a changed copy; the graph given is left as it was."""
        ...


class TrainStep(Protocol[ModuleT, ContextT_contra]):
    """One step of a recipe that trains: a module in, another out."""

    def apply(self, module: ModuleT, context: ContextT_contra) -> ModuleT:
        """Return a changed copy; the module given is left as it was."""
        ...


Receive = Callable[[str, bytes], Awaitable[None]]
"""Takes the topic and the payload of one message; it must not raise."""


class Link(Protocol):
    """A connection to a broker that comes back by itself when it breaks."""

    async def publish(
        self, topic: str, payload: bytes, *, retain: bool = False
    ) -> None:
        """Hand one message to the broker, at least once.

        Returns once the broker has it.

        Raises:
            LinkError: There is no connection, or the broker did not take it in time.
            TrustError: The broker forbids it.
        """
        ...

    async def subscribe(self, pattern: str, receive: Receive) -> None:
        """Have messages given to `receive`, one after the other.

        It holds after each reconnection too. In the pattern, `+` stands for one level
        and a last `#` for all that follow.

        Raises:
            TrustError: The broker forbids it.
        """
        ...

    async def wait_connected(self) -> None:
        """Return as soon as the connection stands."""
        ...

    async def close(self) -> None:
        """Leave, quietly; the last will is not sent."""
        ...


class BlobStore(Protocol):
    """Bytes by their SHA-256."""

    def open(
        self, sha256: str, *, offset: int = 0, end: int | None = None
    ) -> AsyncIterator[bytes]:
        """Give a blob in pieces, from an offset on and before an end.

        Raises:
            LinkError: The store cannot be reached, or the stream broke.
            DataError: There is no such blob.
        """
        ...

    async def put(self, sha256: str, content: bytes) -> None:
        """Keep a blob; keeping it twice is no fault.

        Raises:
            DataError: The content has another hash.
            StorageError: The disk refused.
            LinkError: The store cannot be reached.
        """
        ...

    async def stat(self, sha256: str) -> int | None:
        """The blob's size in bytes, or None where there is none.

        Raises:
            LinkError: The store cannot be reached.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Frame:
    """One picture, or one window of a signal, from a source.

    Attributes:
        source: The source's name.
        number: Counts from 0 in its source.
        captured_at_ms: When it was taken, milliseconds since 1970.
        inputs: What a model takes, by the name of the input, with a batch axis of 1.
        notes: What the source knows of it, such as the place in a recording.
    """

    source: str
    number: int
    captured_at_ms: int
    inputs: Tensors
    notes: Mapping[str, str] = field(default_factory=dict)


class Source(Protocol):
    """What senses: a camera, a sensor, a replayed recording."""

    def frames(self) -> AsyncIterator[Frame]:
        """Give frames as they come, for as long as there are any."""
        ...


class Camera(Protocol):
    """A source of pictures that comes back by itself when it fails."""

    @property
    def name(self) -> str:
        """What it is called."""
        ...

    @property
    def health(self) -> CameraHealth:
        """How it does."""
        ...

    def shots(self) -> AsyncIterator[Shot]:
        """Give pictures as they come, the newest alone where they come too fast."""
        ...

    def attend(self, attention: Attention) -> None:
        """Say how closely it is to be watched from now on."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a detector makes of what it has seen so far.

    Attributes:
        is_drift: Whether it raises an alarm.
        statistic: Its statistic, in units of its own.
        limit: The value of the statistic that raises the alarm.
    """

    is_drift: bool
    statistic: float
    limit: float


ObservedT_contra = TypeVar("ObservedT_contra", contravariant=True)


class Detector(Protocol[ObservedT_contra]):
    """Watches a stream for a change."""

    def update(self, observed: ObservedT_contra, /) -> Verdict:
        """Take one observation."""
        ...
