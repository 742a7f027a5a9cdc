"""Tell which tool wrote a profile, by what is in it, and read it."""

from __future__ import annotations

import glob
from dataclasses import replace
from pathlib import Path

from skerry.adapt.profiles.benchmark_model import is_benchmark_model, read_run_order
from skerry.adapt.profiles.chrome import read_chrome
from skerry.adapt.profiles.ftrace import is_ftrace, read_ftrace
from skerry.adapt.profiles.openvino_counters import is_counters, read_counters
from skerry.adapt.profiles.trtexec import is_trtexec, read_trtexec
from skerry.adapt.profiles.vela import PER_LAYER, is_vela, read_vela
from skerry.adapt.profiles.words import decode_json, not_a_profile
from skerry.core.errors import DataError, UsageError
from skerry.core.profile import Profile

MAX_FILE_BYTES = 64 * 2**20
"""Larger files are refused."""

_PROTOBUF = b"\x0a"
_GZIP = b"\x1f\x8b"


def read_profiles(path: Path) -> tuple[Profile, ...]:
    """Read the profile that another tool wrote.

    Chrome's and Perfetto's JSON, systrace (ftrace's text), what `trtexec
    --exportProfile` writes, what TFLite's `benchmark_model` prints as text or as CSV,
    the counters of OpenVINO's `benchmark_app`, and the operators that Vela writes with
    its summary beside them.

    Returns:
        One profile a process of a trace, the longest first; one in all other formats.

    Raises:
        UsageError: There is no such file, or it cannot be read.
        DataError: It is too large, or none of these, or damaged.
    """
    if not path.is_file():
        reason = "is a folder" if path.is_dir() else "is not there"
        raise UsageError(
            f"the profile {path} {reason}", hint="Give the path of a profile."
        )
    beside = b""
    try:
        content = _read(path)
        if path.name.endswith(PER_LAYER):
            stem = glob.escape(path.name.removesuffix(PER_LAYER))
            for summary in sorted(path.parent.glob(f"{stem}_summary_*.csv"))[:1]:
                beside = _read(summary)
    except OSError as error:
        raise UsageError(
            f"the profile {path} cannot be read: {error.strerror}",
            hint="Check who may read it.",
        ) from error
    return parse_profiles(content, name=path.name, beside=beside)


def parse_profiles(
    content: bytes, *, name: str, beside: bytes = b""
) -> tuple[Profile, ...]:
    """Read a profile from its bytes.

    Args:
        content: The whole file.
        name: What messages call it.
        beside: The summary that Vela writes beside the operators; empty for none.

    Raises:
        DataError: It is too large, or of no format that is known, or damaged.
    """
    if len(content) > MAX_FILE_BYTES:
        raise DataError(
            f"{name} has more than {MAX_FILE_BYTES >> 20} MiB, the most that is read",
            hint="Record less at a time, or only the process that runs the model.",
        )
    found = _parse(content, name, beside)
    if not any(profile.operators for profile in found):
        raise DataError(
            f"{name} holds no operator that ran",
            hint="Record it anew, with the profiling of operators switched on.",
        )
    return tuple(replace(profile, source=name) for profile in found)


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_FILE_BYTES + 1)


def _parse(content: bytes, name: str, beside: bytes) -> tuple[Profile, ...]:
    if is_vela(content):
        return (read_vela(content, beside, name=name),)
    if content.startswith(_GZIP):
        raise DataError(f"{name} is compressed", hint="Unpack it first: gunzip.")
    head = content.lstrip()[:1]
    if head in (b"[", b"{"):
        document = decode_json(content, name)
        if is_trtexec(document):
            return (read_trtexec(document, name=name),)
        return read_chrome(document, name=name)
    text = content.decode("utf-8", "replace")
    if is_benchmark_model(text):
        return (read_run_order(text, name=name),)
    if is_counters(text):
        return (read_counters(text, name=name),)
    if is_ftrace(text):
        return read_ftrace(text, name=name)
    if content.startswith(_PROTOBUF):
        raise DataError(
            f"{name} is no text: a Perfetto trace in protobuf, perhaps",
            hint="Convert it first: traceconv json trace.pftrace trace.json.",
        )
    raise not_a_profile(name)
