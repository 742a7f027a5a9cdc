"""The user's own training code: `train.py:setup`, run and checked."""

from __future__ import annotations

import hashlib
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from functools import partial
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING

from skerry.app.pipelines.compress import SearchSamples
from skerry.compress.search.making import Trainer
from skerry.core.durable import make_folder
from skerry.core.errors import ModelError, SkerryError, UsageError
from skerry.graph import Graph, write_graph

if TYPE_CHECKING:
    from skerry.compress.search.request import Search
    from skerry.compress.train.training import Training
    from skerry.core.model import Model
    from skerry.core.recipe import Recipe

DEFAULT_SETUP = "setup"

SOURCE_FILE = "source.onnx"
"""What the module that training begins with is called once it is exported."""


def load_training(where: str) -> Training:
    """Run a file of the user's and call the function that sets training up.

    Args:
        where: `train.py:setup`; the function is called `setup` unless it says another.

    Returns:
        What the function returned.

    Raises:
        UsageError: There is no such file or function, it failed (the message says in
            which line), or it returned something else.
        MissingExtraError: torch is not installed.
    """
    from skerry.compress.train.training import Training

    path, name = split_setup(where)
    with _blaming(path, UsageError):
        made = _run(path, name)
    if not isinstance(made, Training):
        raise UsageError(
            f"{name}() of {path} returned {type(made).__name__}, expected a Training",
            hint="Return skerry.compress.train.training.Training(…).",
        )
    return made


class OpenTraining:
    """The user's training, as a search or a recipe uses it.

    Args:
        where: The file and its function, `train.py:setup`.

    Raises:
        As `load_training`.
    """

    def __init__(self, where: str) -> None:
        self._where = where
        self._training = load_training(where)

    @property
    def samples(self) -> SearchSamples:
        """The samples that come with it."""
        training = self._training
        return SearchSamples(
            calibration=training.calibration,
            selection=training.selection,
            report=training.report,
            task=training.task,
        )

    def export(self, path: Path) -> Model:
        """Write the module that training begins with.

        Raises:
            ModelError: The module cannot be exported.
            StorageError: The disk refused.
        """
        from skerry.compress.train.export import export_graph

        training = self._training
        graph = export_graph(
            training.module,
            training.example,
            inputs=training.inputs,
            outputs=training.outputs,
        )
        make_folder(path.parent)
        return write_graph(graph, path)

    def trainer(self, search: Search, *, seed: int = 0) -> Trainer:
        """What does the steps that train.

        Args:
            search: Its budget must hold: steps stop where it breaks.
            seed: Of all chance.
        """
        from skerry.compress.train.run import train_recipe

        meter = search.meter
        place = "" if meter is None else meter.place

        def train(recipe: Recipe) -> Graph:
            with _blaming(split_setup(self._where)[0], ModelError):
                return train_recipe(
                    self._training,
                    recipe,
                    runtime=search.runtime,
                    budget=search.budget,
                    seed=seed,
                    threads=search.threads,
                    progress=search.progress,
                    latency_ms=None
                    if meter is None
                    else partial(meter.latency_ms, runtime=search.runtime),
                ).graph

        code = training_key(self._where, self._training)
        return Trainer(train=train, key=f"{code};{seed};{search.budget!r}{place}")


@contextmanager
def _blaming(path: Path, kind: type[SkerryError]) -> Iterator[None]:
    """Turn what the user's own code raises into an error that names its line.

    What it prints is talk, and goes where talk goes: results alone are on stdout.
    """
    try:
        with redirect_stdout(sys.stderr):
            yield
    except SkerryError:
        raise
    except Exception as error:
        raise kind(
            f"{_where(error, path)}: {type(error).__name__}: {error}",
            hint="The fault is in the training code: run it by itself.",
        ) from error


def _run(path: Path, name: str) -> object:
    """Run a file, then a function of it; what lies beside it can be imported."""
    spec = spec_from_file_location(f"skerry_training_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise UsageError(
            f"{path} is no Python file", hint="Write --train train.py:setup."
        )
    module = module_from_spec(spec)
    # Pickles, and dataclasses with annotations as text, look their module up.
    sys.modules[spec.name] = module
    sys.path.insert(0, str(path.parent.resolve()))
    try:
        spec.loader.exec_module(module)
        setup = getattr(module, name, None)
        if not callable(setup):
            raise UsageError(
                f"{path} has no function {name!r}",
                hint="Write a function that returns skerry.compress.train's Training.",
            )
        return setup()
    finally:
        sys.path.remove(str(path.parent.resolve()))


def split_setup(where: str) -> tuple[Path, str]:
    """Split `train.py:setup` into the file and the name of the function.

    Raises:
        UsageError: There is no such file.
    """
    text, sign, name = where.rpartition(":")
    path = Path(text if sign else where)
    if not path.is_file():
        raise UsageError(
            f"there is no file {path}", hint="Write --train train.py:setup."
        )
    return path, name if sign else DEFAULT_SETUP


def refuse_samples(train: str, *samples: Path | None) -> None:
    """Refuse samples beside a training, which brings its own.

    Raises:
        UsageError: There are some.
    """
    if given := [str(one) for one in samples if one is not None]:
        raise UsageError(
            f"got {' and '.join(given)} beside --train {train}",
            hint="A Training brings its samples and its task: leave them out here.",
        )


def training_key(where: str, training: Training) -> str:
    """Tell apart what training depends on: the code, the weights, torch itself."""
    from skerry.runtimes.torch import torch

    digest = hashlib.sha256(split_setup(where)[0].read_bytes())
    digest.update(f"{torch.__version__};{training.learning_rate}".encode())
    for name, tensor in sorted(training.module.state_dict().items()):
        digest.update(f"{name};{tensor.dtype};{tuple(tensor.shape)};".encode())
        digest.update(tensor.numpy(force=True).tobytes())
    return digest.hexdigest()


def _where(error: Exception, path: Path) -> str:
    """The last line of the user's own file that the error went through."""
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename) == path or frame.filename == str(path.resolve())
    ]
    own = error.lineno if isinstance(error, SyntaxError) else None
    line = own or (lines[-1] if lines else None)
    return f"{path}, line {line}" if line else str(path)
