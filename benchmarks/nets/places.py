"""What the nets are made of, where it is found, and why it is not there.

Data beside the project comes from the folder that `SKERRY_DATA` names; what pip, apt
and toolchain environments bring is looked for where they put it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from skerry.app.toolchains import find_python, find_toolchain, run_in
from skerry.core.durable import make_folder
from skerry.core.errors import ModelError, SkerryError, UsageError
from skerry.core.seams import LoadOptions
from skerry.graph import open_model
from skerry.runtimes import get_runtime

DATA_VARIABLE = "SKERRY_DATA"
FASHION = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package `dataset-fashion-mnist` puts its files."""

CONVERSION_TIMEOUT_S = 600.0
TRAINING_TIMEOUT_S = 7200.0
SAME = 1e-4
"""Largest difference of a converted net from its original, relative."""

Need = Callable[[], str | None]
"""Says what is missing and how to get it, None where nothing is."""


def data_folder(name: str) -> Path:
    """Find a folder of the data beside the project.

    Raises:
        UsageError: `SKERRY_DATA` is not set, or the folder is not in it.
    """
    if missing := data(name)():
        raise UsageError(missing, hint=f"Set {DATA_VARIABLE} to the folder of data.")
    return Path(os.environ[DATA_VARIABLE]) / name


def data(name: str) -> Need:
    """Need a folder of the data beside the project."""

    def check() -> str | None:
        given = os.environ.get(DATA_VARIABLE)
        if not given:
            return f"{DATA_VARIABLE} is not set: it has {name}"
        return None if (Path(given) / name).exists() else f"{given} has no {name}"

    return check


def wheel(package: str, install: str) -> Need:
    """Need a package's files; it is not imported."""

    def check() -> str | None:
        is_there = find_spec(package) is not None
        return (
            None if is_there else f"{package} is not installed: pip install {install}"
        )

    return check


def toolchain(name: str) -> Need:
    """Need an environment that `skerry toolchain install` makes."""

    def check() -> str | None:
        try:
            find_python(find_toolchain(name))
        except SkerryError as error:
            return f"{error}: {error.hint}"
        return None

    return check


def fashion() -> str | None:
    """Need Debian's Fashion-MNIST."""
    if (FASHION / "train-images-idx3-ubyte.gz").exists():
        return None
    return "Fashion-MNIST is not there: apt-get install dataset-fashion-mnist"


def run_script(
    name: str, script: str, argv: Sequence[str | Path], *, timeout_s: float
) -> str:
    """Run one of the scripts beside this file in a toolchain environment.

    Raises:
        ToolchainError: The environment is not there, or the script failed.
    """
    path = Path(__file__).with_name(script)
    words = [str(path), *map(str, argv)]
    return run_in(find_toolchain(name), words, timeout_s=timeout_s)


def keep(path: Path, make: Callable[[Path], None]) -> Path:
    """Make a file that is long in the making, once; a half-made one is never used.

    Args:
        path: Where it is kept.
        make: Writes the file that it is given.
    """
    if not path.exists():
        make_folder(path.parent)
        part = path.with_name(f".{os.getpid()}-{path.name}")
        make(part)
        part.replace(path)
    return path


def check_outputs(path: Path, check: Path) -> float:
    """Check that a converted net gives what the original gave.

    Args:
        path: The ONNX file.
        check: An `.npz` with the original's inputs and outputs by name, one batch.

    Returns:
        The largest difference, relative to the largest output.

    Raises:
        ModelError: They differ by more than rounding.
    """
    model = open_model(path)
    arrays = dict(np.load(check))
    session = get_runtime("onnxruntime").load(model, LoadOptions(threads=1))
    try:
        outputs = session.run({spec.name: arrays[spec.name] for spec in model.inputs})
    finally:
        session.close()
    worst = 0.0
    for name, output in outputs.items():
        expected = arrays[name]
        worst = max(
            worst, float(np.abs(output - expected).max() / np.abs(expected).max())
        )
    if not worst <= SAME:
        raise ModelError(
            f"{path.name} differs from its original by {worst:.1e}, expected {SAME:g}",
            hint="The conversion is wrong: see what the converter says.",
        )
    return worst
