from __future__ import annotations

from pathlib import Path

import pytest

from skerry.core.errors import (
    DataError,
    MissingExtraError,
    ModelError,
    RefusedError,
    RuntimeFailure,
    SkerryError,
)
from skerry.core.model import Model, ModelFormat, TensorSpec
from skerry.core.seams import LoadOptions
from skerry.edge.workers import messages
from skerry.edge.workers.messages import (
    Failed,
    Forked,
    Load,
    Loaded,
    Open,
    Ready,
    read_error,
    write_error,
    write_message,
)

SPEC = TensorSpec(name="x", dtype="float32", shape=("N", None, 4))
MODEL = Model(
    path=Path("/m/é.onnx"),
    format=ModelFormat.ONNX,
    inputs=(SPEC,),
    outputs=(SPEC, SPEC),
    sha256="0" * 64,
    size_bytes=9,
)


def test_messages_arrive_as_they_were() -> None:
    """Models and options with all their fields."""
    load = Load(model=MODEL, options=LoadOptions(threads=3), largest_bytes=7)
    loaded = Loaded(inputs=(SPEC,), outputs=(), providers=("cuda",), fallbacks=("a b",))
    failed = Failed(kind="ModelError", what="w", hint="h")
    assert messages.to_worker(write_message(load)) == load
    assert messages.to_worker(write_message(Open())) == Open()
    assert messages.from_worker(write_message(loaded)) == loaded
    assert messages.from_worker(write_message(failed)) == failed
    assert messages.failed(write_message(failed)) == failed
    for said in (Ready(version="1"), Forked(pid=3, is_reusable=True), failed):
        assert messages.from_spare(write_message(said)) == said


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xff", write_message(Open()), write_message(Open())[:-1]]
)
def test_what_a_worker_must_not_say(content: bytes) -> None:
    """Nonsense, and what only a gateway says."""
    with pytest.raises(DataError, match="malformed"):
        messages.from_worker(content)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ModelError("w", hint="h"), ModelError),
        (DataError("w", hint="h"), DataError),
        (RefusedError("w", hint="h"), RuntimeFailure),
        (ValueError("w"), RuntimeFailure),
    ],
)
def test_errors_keep_their_kind(error: Exception, kind: type[SkerryError]) -> None:
    """Those that a session may raise; any other is the runtime's failure."""
    told = read_error(write_error(error, "it cannot be run"))
    assert type(told) is kind
    is_ours = isinstance(error, SkerryError)
    assert told.what == ("w" if is_ours else "it cannot be run: ValueError")


def test_a_missing_library_keeps_its_name() -> None:
    """The one who reads it must know what to install."""
    told = read_error(write_error(MissingExtraError("ncnn", extra="ncnn"), ""))
    assert isinstance(told, MissingExtraError)
    assert (told.module, told.extra) == ("ncnn", "ncnn")


def test_a_long_text_is_cut() -> None:
    """A worker cannot fill the log."""
    told = read_error(Failed(kind="X", what="w" * 9999, hint="h" * 9999))
    assert len(told.what) == len(told.hint) == 1000
