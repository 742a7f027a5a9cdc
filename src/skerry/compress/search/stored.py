"""What calibration found out, as bytes and back: the form that a cache keeps.

An `.npz` of plain arrays, named by what they are and whose; never a pickle.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from dataclasses import asdict

import msgspec
import numpy as np

from skerry.compress.numbers.ranges import Range
from skerry.compress.numbers.schemes import Scheme
from skerry.compress.numbers.tensors import QuantizedTensor
from skerry.compress.ptq.quantize import Measured
from skerry.core.errors import SkerryError
from skerry.core.seams import Array

_CODES = ("values", "scale", "zero_point")


def encode_measured(measured: Measured) -> bytes:
    """Write what calibration found out."""
    arrays: dict[str, Array] = {}
    names: dict[str, list[str]] = {
        "ranges": list(measured.ranges),
        "shifts": list(measured.shifts),
        "codes": list(measured.codes),
    }
    for index, one in enumerate(measured.ranges.values()):
        arrays[f"range.{index}"] = np.stack([one.low, one.high])
    for index, shift in enumerate(measured.shifts.values()):
        arrays[f"shift.{index}"] = np.asarray(shift)
    for index, codes in enumerate(measured.codes.values()):
        for part in _CODES:
            arrays[f"code.{index}.{part}"] = getattr(codes, part)
    schemes = [asdict(codes.scheme) for codes in measured.codes.values()]
    notes = list(measured.notes)
    head = msgspec.json.encode({"names": names, "schemes": schemes, "notes": notes})
    stream = io.BytesIO()
    np.savez(stream, head=np.frombuffer(head, np.uint8), **arrays)  # type: ignore[arg-type]
    return stream.getvalue()


def decode_measured(content: bytes) -> Measured | None:
    """Read what `encode_measured` wrote; None where it is something else."""
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            head = msgspec.json.decode(arrays["head"].tobytes(), type=_Head)
            return _measured(head, {name: arrays[name] for name in arrays.files})
    except (
        *(KeyError, ValueError, TypeError, IndexError, OSError, EOFError),
        # What the reader of archives makes of damage, by where it is.
        *(zipfile.BadZipFile, zlib.error, RuntimeError, MemoryError, OverflowError),
        *(SyntaxError, UnicodeError, struct.error),
        *(msgspec.DecodeError, SkerryError),
    ):
        return None


class _Head(msgspec.Struct):
    names: dict[str, list[str]]
    schemes: list[dict[str, object]]
    notes: tuple[str, ...] = ()


def _measured(head: _Head, arrays: dict[str, Array]) -> Measured:
    names = head.names
    return Measured(
        ranges={
            name: Range(low=arrays[f"range.{k}"][0], high=arrays[f"range.{k}"][1])
            for k, name in enumerate(names["ranges"])
        },
        shifts={name: arrays[f"shift.{k}"] for k, name in enumerate(names["shifts"])},
        codes={
            name: QuantizedTensor(
                values=arrays[f"code.{k}.values"],
                scale=arrays[f"code.{k}.scale"],
                zero_point=arrays[f"code.{k}.zero_point"],
                scheme=msgspec.convert(head.schemes[k], Scheme),
            )
            for k, name in enumerate(names["codes"])
        },
        notes=head.notes,
    )
