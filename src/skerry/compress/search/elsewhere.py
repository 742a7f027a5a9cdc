"""The runtimes beside the named one."""

from __future__ import annotations

from skerry.core.errors import MissingExtraError, SkerryError
from skerry.core.model import ModelFormat
from skerry.core.seams import Runtime
from skerry.runtimes import RUNTIMES_OF, get_runtime, runtime_names

_FAKE = "null"

_OF_OTHER_FORMATS = (
    frozenset().union(*RUNTIMES_OF.values()).difference(RUNTIMES_OF[ModelFormat.ONNX])
)
"""They run files of their own format: a result is written as ONNX."""


def other_runtimes(named: str) -> tuple[tuple[Runtime, ...], dict[str, str]]:
    """Find the runtimes that a result, an ONNX file, could run on beside the named one.

    Args:
        named: The name of the one that it is to run on.

    Returns:
        Those that are installed; and, by name, why each of the others is not tried.
    """
    found: list[Runtime] = []
    missing: dict[str, str] = {}
    for name in runtime_names():
        if name in {named, _FAKE, *_OF_OTHER_FORMATS}:
            continue
        try:
            found.append(get_runtime(name))
        except MissingExtraError as error:
            missing[name] = f"not tried: {error.hint}"
        except SkerryError as error:
            missing[name] = f"not tried: {error.what}"
    return tuple(found), missing
