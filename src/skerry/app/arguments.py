"""Values that people type: shapes, and what the project file supplies."""

from __future__ import annotations

import platform
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from skerry.core.errors import UsageError
from skerry.core.model import Model

if TYPE_CHECKING:
    from skerry.core.target import Target
    from skerry.graph import Graph

_SHAPE = re.compile(r"[0-9]{1,9}([x×,][0-9]{1,9})*", re.ASCII)


def parse_shapes(
    texts: Sequence[str], inputs: Sequence[str]
) -> dict[str, tuple[int, ...]]:
    """Read shapes typed as `NAME=1x3x48x320`.

    Args:
        texts: What was typed; the name may be left out where there is one input.
        inputs: The names of the model's inputs.

    Returns:
        Shapes by name; whether there is such an input, and whether the shape fits it,
        is for the graph to say.

    Raises:
        UsageError: A text is not a shape, or an input is given twice.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for text in texts:
        name, sign, sizes = text.rpartition("=")
        if not sign and len(inputs) == 1:
            name = inputs[0]
        if not name or not _SHAPE.fullmatch(sizes):
            raise UsageError(
                f"{text!r} is not a shape of an input",
                hint=f"Write it like {inputs[0] if inputs else 'x'}=1x3x48x320.",
            )
        if name in shapes:
            raise UsageError(
                f"the input {name!r} has two shapes", hint="Give each input one."
            )
        shapes[name] = tuple(int(size) for size in re.split("[x×,]", sizes))
    return shapes


def fix_shapes(graph: Graph, texts: Sequence[str]) -> Graph:
    """Return a graph whose inputs have the shapes that were typed.

    Raises:
        UsageError: A text is not a shape, or an input is given twice.
        The errors of `with_static_inputs`.
    """
    from skerry.graph import with_static_inputs

    shapes = parse_shapes(texts, [spec.name for spec in graph.inputs])
    return with_static_inputs(graph, shapes)


def open_shaped(path: Path, texts: Sequence[str]) -> Model:
    """Open a model of any format; shapes that were typed are for ncnn's open inputs.

    Raises:
        The errors of `runtimes.open_any`, and `UsageError` for what is not a shape.
    """
    from skerry.core.model import ModelFormat
    from skerry.runtimes import input_names, model_format, open_any

    if not texts or model_format(path) is not ModelFormat.NCNN:
        return open_any(path)
    return open_any(path, shapes=parse_shapes(texts, input_names(path)))


def find_elsewhere(target: str) -> Target | None:
    """Find a target that this machine cannot be.

    Args:
        target: Its name, or its file; empty for this machine.

    Returns:
        The target; None where this machine may be it.

    Raises:
        UsageError: There is no such target.
    """
    from skerry.adapt.target_files import load_target, target_names

    if not target:
        return None
    found = load_target(target)
    is_x86 = platform.machine() in ("x86_64", "AMD64")
    is_other = found.name in target_names() and (found.name == "x86-64") != is_x86
    is_here = any(one.runs_everything for one in found.processors) and not is_other
    return None if is_here else found


def check_here(target: str, verb: str) -> None:
    """Refuse a target that cannot be measured by running a model on this machine.

    Args:
        target: Its name; nothing is checked where it is empty.
        verb: The command that would measure.

    Raises:
        UsageError: There is no such target, or this machine cannot be it.
    """
    found = find_elsewhere(target)
    if found is not None:
        raise UsageError(
            f"{found.name} is not this machine, and no compiler here says what a "
            "model takes on it",
            hint=f"Run skerry {verb} on the device. From here, skerry adapt rewrites "
            "for it, and skerry profile --on ssh://HOST measures there.",
        )
