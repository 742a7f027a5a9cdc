"""What the readers of foreign profiles share: numbers, names and refusals."""

from __future__ import annotations

import math
from typing import Any

import msgspec

from skerry.core.errors import DataError

LONGEST_LINE = 2000
"""Letters of a line that are looked at."""

LONGEST_NAME = 200
"""Letters of a name that are kept."""

LONGEST_MS = 1e9
"""No operator takes longer: eleven days."""

LATEST_US = 1e16
"""No time stamp is later: that of today, counted from 1970, is 2e15."""

KNOWN = (
    "Known are Chrome and Perfetto JSON, systrace text, trtexec --exportProfile, "
    "TFLite's benchmark_model, OpenVINO's counters and Vela's operators."
)


def decode_json(content: bytes, name: str) -> Any:
    """Read JSON; a list of events may lack its end, as Chrome's format allows.

    Raises:
        DataError: It is no JSON.
    """
    try:
        return msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        reason = error
    whole = content.strip()
    if whole.startswith(b"["):
        try:
            return msgspec.json.decode(whole.rstrip(b",") + b"]")
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass
    raise DataError(f"{name} is damaged JSON: {reason}", hint="Record it anew.")


def number(
    value: object, *, name: str, what: str, most: float = LONGEST_MS * 1000
) -> float:
    """A finite number that is not negative, of a text or a JSON value.

    Args:
        value: What was read.
        name: What messages call the file.
        what: What messages call the number.
        most: The largest that makes sense.

    Raises:
        DataError: It is none.
    """
    try:
        read = float(value) if isinstance(value, str | int | float) else math.nan
    except (ValueError, OverflowError):
        read = math.nan
    if not 0 <= read <= most or isinstance(value, bool):
        raise DataError(
            f"{name}: {what} is {str(value)[:40]!r}, expected a time",
            hint="Is the file whole, and as the tool wrote it?",
        )
    return read


def word(value: object) -> str:
    """A name of bounded length; empty for what is no text."""
    return value.strip()[:LONGEST_NAME] if isinstance(value, str) else ""


def not_a_profile(name: str) -> DataError:
    """The error of a file that no reader knows."""
    return DataError(f"{name} is no profile that is known", hint=KNOWN)
