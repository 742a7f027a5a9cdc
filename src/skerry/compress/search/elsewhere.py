"""The runtimes beside the named one."""

from __future__ import annotations

from skerry.core.errors import MissingExtraError, SkerryError
from skerry.core.seams import Runtime
from skerry.runtimes import get_runtime, runtime_names

_FAKE = "null"


def other_runtimes(named: str) -> tuple[tuple[Runtime, ...], dict[str, str]]:
    """Find the runtimes that a result could run on beside the named one.

    Args:
        named: The name of the one that it is to run on.

    Returns:
        Those that are installed; and, by name, why each of the others is not tried.
    """
    found: list[Runtime] = []
    missing: dict[str, str] = {}
    for name in runtime_names():
        if name in (named, _FAKE):
            continue
        try:
            found.append(get_runtime(name))
        except MissingExtraError as error:
            missing[name] = f"not tried: {error.hint}"
        except SkerryError as error:
            missing[name] = f"not tried: {error.what}"
    return tuple(found), missing
