"""What gateway and worker tell each other beside inferences: fork, load, open."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import msgspec

from skerry.core.errors import (
    DataError,
    MissingExtraError,
    ModelError,
    RuntimeFailure,
    SkerryError,
    StateError,
    TargetError,
    UsageError,
)
from skerry.core.model import Model, TensorSpec
from skerry.core.seams import LoadOptions

LARGEST_MESSAGE_BYTES = 131_072
_LONGEST_TEXT = 1000

_KINDS: dict[str, type[SkerryError]] = {
    kind.__name__: kind
    for kind in (
        *(UsageError, DataError, ModelError, RuntimeFailure),
        *(TargetError, StateError),
    )
}


class Ready(msgspec.Struct, frozen=True, tag=True):
    """A spare's first word: it has imported its runtime, of this version."""

    version: str


class Forked(msgspec.Struct, frozen=True, tag=True):
    """A spare's answer: there is a worker now, and whether it can make another."""

    pid: int
    is_reusable: bool


class Load(msgspec.Struct, frozen=True, tag=True):
    """To a worker: load a model, and never hold more private memory than this."""

    model: Model
    options: LoadOptions
    largest_bytes: int


class Open(msgspec.Struct, frozen=True, tag=True):
    """To a worker: serve one more channel; socket and segments come along."""


class Loaded(msgspec.Struct, frozen=True, tag=True):
    """A worker's answer: the model is loaded; its signature, and what it runs on."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    providers: tuple[str, ...] = ()
    fallbacks: tuple[str, ...] = ()


class Failed(msgspec.Struct, frozen=True, tag=True):
    """An error, on its way through a socket."""

    kind: str
    what: str
    hint: str
    module: str = ""
    extra: str = ""


MessageT = TypeVar("MessageT")
FromSpare = Ready | Forked | Failed
FromWorker = Loaded | Failed
ToWorker = Load | Open


def _write_path(value: Any) -> str:
    if isinstance(value, Path):
        return str(value)
    raise NotImplementedError


def _read_path(kind: type, value: Any) -> Any:
    if kind is Path and isinstance(value, str):
        return Path(value)
    raise NotImplementedError


_ENCODER = msgspec.msgpack.Encoder(enc_hook=_write_path)
_FROM_SPARE: msgspec.msgpack.Decoder[FromSpare] = msgspec.msgpack.Decoder(FromSpare)
_FROM_WORKER: msgspec.msgpack.Decoder[FromWorker] = msgspec.msgpack.Decoder(FromWorker)
_TO_WORKER: msgspec.msgpack.Decoder[ToWorker] = msgspec.msgpack.Decoder(
    ToWorker, dec_hook=_read_path
)
_FAILED = msgspec.msgpack.Decoder(Failed)


def write_message(message: FromSpare | FromWorker | ToWorker) -> bytes:
    """Encode a message."""
    return _ENCODER.encode(message)


def from_spare(content: bytes) -> FromSpare:
    """Decode what a spare says.

    Raises:
        DataError: It is malformed.
    """
    return _read(_FROM_SPARE, content)


def from_worker(content: bytes) -> FromWorker:
    """Decode what a worker says.

    Raises:
        DataError: It is malformed.
    """
    return _read(_FROM_WORKER, content)


def to_worker(content: bytes) -> ToWorker:
    """Decode what a worker is told.

    Raises:
        DataError: It is malformed.
    """
    return _read(_TO_WORKER, content)


def failed(content: bytes) -> Failed:
    """Decode an error.

    Raises:
        DataError: It is malformed.
    """
    return _read(_FAILED, content)


def write_error(error: Exception, otherwise: str) -> Failed:
    """Tell of an error.

    Args:
        error: What was raised.
        otherwise: What could not be done; of an error that is none of ours only its
            kind is told besides, for its text may hold anything.
    """
    if not isinstance(error, SkerryError):
        return Failed(
            kind=RuntimeFailure.__name__,
            what=f"{otherwise}: {type(error).__name__}",
            hint="The log says more.",
        )
    return Failed(
        kind=type(error).__name__,
        what=error.what[:_LONGEST_TEXT],
        hint=error.hint[:_LONGEST_TEXT],
        module=getattr(error, "module", ""),
        extra=getattr(error, "extra", ""),
    )


def read_error(failed: Failed) -> SkerryError:
    """The error that was told of; a kind that is not known is a `RuntimeFailure`."""
    if failed.kind == MissingExtraError.__name__:
        return MissingExtraError(
            failed.module[:_LONGEST_TEXT], extra=failed.extra[:_LONGEST_TEXT]
        )
    kind = _KINDS.get(failed.kind, RuntimeFailure)
    return kind(failed.what[:_LONGEST_TEXT], hint=failed.hint[:_LONGEST_TEXT])


def _read(decoder: msgspec.msgpack.Decoder[MessageT], content: bytes) -> MessageT:
    try:
        return decoder.decode(content)
    except (msgspec.MsgspecError, ValueError, NotImplementedError) as error:
        raise DataError(
            f"a message of {len(content)} bytes is malformed: {error}",
            hint="One side of a worker process is broken.",
        ) from error
