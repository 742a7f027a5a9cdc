"""Say in one plain line why a library refused.

What onnxruntime and OpenVINO raise tells its reason among codes, files and functions
of their C++ source, over up to a dozen lines.
"""

from __future__ import annotations

import re

LONGEST_REASON = 200
_LONGEST_READ = 4000

_SOURCE = r"(?:\S*/)?\w+\.(?:cc|cpp|h|hpp):\d+:?"
_SIGNATURE = r"[^()]*::[^()]*\((?:[^()]|\([^()]*\))*\)(?: const)?"
_NOISE = re.compile(
    "|".join(
        (
            # onnxruntime: the code, the path we know, the place in its source with
            # the signature or the name of the function.
            r"\[ONNXRuntimeError\] : \d+ : \w+ : ",
            r"Load model from .*? failed: ?",
            r"Non-zero status code returned while running ",
            r"Status Message: ",
            rf"{_SOURCE} (?:{_SIGNATURE}|\w+) ",
            # OpenVINO: whole lines, but for the node that may stand before a check.
            rf"Exception from {_SOURCE}",
            rf"Check '[^\n]*' failed at {_SOURCE}",
            r"FrontEnd API failed with \w+:",
            r"(?m:^While validating .*$)",
            r"Failed operations detailed log:",
            r"Summary:",
            r"(?m:^-- )",
        )
    )
)


def plain_reason(message: str) -> str:
    """Reduce what a library raised to one line of at most 200 characters.

    Returns:
        The reason; empty where the message holds nothing else than noise.
    """
    reason = " ".join(_NOISE.sub("", message[:_LONGEST_READ]).split())
    if len(reason) <= LONGEST_REASON:
        return reason
    return reason[: LONGEST_REASON - 1].rstrip() + "…"
