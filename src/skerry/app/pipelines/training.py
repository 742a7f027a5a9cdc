"""The user's own training code: `train.py:setup`, run and checked."""

from __future__ import annotations

import hashlib
import sys
import traceback
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING

from skerry.core.errors import SkerryError, UsageError

if TYPE_CHECKING:
    from skerry.compress.train.training import Training

DEFAULT_SETUP = "setup"


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
    try:
        made = _run(path, name)
    except SkerryError:
        raise
    except Exception as error:
        raise UsageError(
            f"{_where(error, path)}: {type(error).__name__}: {error}",
            hint="The fault is in the training code: run it by itself.",
        ) from error
    if not isinstance(made, Training):
        raise UsageError(
            f"{name}() of {path} returned {type(made).__name__}, expected a Training",
            hint="Return skerry.compress.train.training.Training(…).",
        )
    return made


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
