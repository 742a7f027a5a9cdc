"""The shadow: what a device should be, what it said it is, and the difference.

Either side is a JSON object that is changed by merge patches (RFC 7396). Each real
change makes the version grow by one and stamps the top-level keys that changed; a patch
that changes nothing changes no version. A writer may name the version that it has read:
if the shadow has changed since, its patch is refused (an optimistic lock).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import msgspec

from skerry.core.documents import Json
from skerry.core.errors import ConflictError, DataError
from skerry.core.fleet import Shadow, Stamp

LARGEST_SIDE_BYTES = 32 * 1024
"""Most bytes of one side, as canonical JSON: it fits in a message."""

LARGEST_NUMBER = (1 << 64) - 1
"""Beyond it, readers of JSON disagree: RFC 8259, section 6."""

DEEPEST = 32
"""Most objects and arrays within one another."""

REMOVED_STAMPS = 64
"""How many removed keys of a side keep their stamps, the last removed first."""

_ENCODER = msgspec.json.Encoder(order="sorted")


def merge_patch(target: Json, patch: Json) -> Json:
    """Apply a merge patch: RFC 7396, section 2.

    Args:
        target: What is patched; it is left as it was.
        patch: An object changes the members it names, and null removes one; anything
            else takes the target's place.

    Returns:
        The result; it may share parts with the target and the patch.
    """
    if not isinstance(patch, Mapping):
        return patch
    merged = dict(target) if isinstance(target, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), value)
    return merged


def set_desired(
    shadow: Shadow,
    patch: Mapping[str, Json],
    *,
    now_ms: int,
    version: int | None = None,
) -> Shadow:
    """Change what a device should be.

    Args:
        shadow: As it is.
        patch: A merge patch of its desired side.
        now_ms: The time, milliseconds since 1970.
        version: The version that the writer has read, or None to write regardless.

    Returns:
        The changed shadow, or the one given if the patch changes nothing.

    Raises:
        ConflictError: The shadow is not at `version`.
        DataError: The patch is not JSON, or the side would be too large or too deep.
    """
    if version is not None and version != shadow.version:
        raise ConflictError(
            f"the shadow of {shadow.device} is at version {shadow.version}, the change"
            f" was made for version {version}",
            hint="Read the shadow again, then change it.",
        )
    stamp = Stamp(version=shadow.version + 1, at_ms=now_ms)
    side = _patched(shadow.desired, patch, f"the desired side of {shadow.device}")
    changed = _changed_keys(shadow.desired, side)
    if not changed:
        return shadow
    return replace(
        shadow,
        version=stamp.version,
        desired=side,
        desired_stamps=_stamped(shadow.desired_stamps, changed, stamp, side),
    )


def report(shadow: Shadow, patch: Mapping[str, Json], *, now_ms: int) -> Shadow:
    """Take what a device says it is.

    Args:
        shadow: As it is.
        patch: A merge patch of its reported side.
        now_ms: The time, milliseconds since 1970.

    Returns:
        The changed shadow, or the one given if the patch changes nothing.

    Raises:
        DataError: The patch is not JSON, or the side would be too large or too deep.
    """
    stamp = Stamp(version=shadow.version + 1, at_ms=now_ms)
    side = _patched(shadow.reported, patch, f"the reported side of {shadow.device}")
    changed = _changed_keys(shadow.reported, side)
    if not changed:
        return shadow
    return replace(
        shadow,
        version=stamp.version,
        reported=side,
        reported_stamps=_stamped(shadow.reported_stamps, changed, stamp, side),
    )


def delta(shadow: Shadow) -> dict[str, Json]:
    """What of the desired side the reported side does not say, object by object.

    Returns:
        Empty if and only if each member of `desired`, at every depth, is reported with
        the same value; what is reported beyond that does not count.
    """
    return _missing(shadow.desired, shadow.reported)


def _missing(
    desired: Mapping[str, Json], reported: Mapping[str, Json]
) -> dict[str, Json]:
    missing: dict[str, Json] = {}
    for key, wanted in desired.items():
        said = reported.get(key)
        if isinstance(wanted, Mapping) and isinstance(said, Mapping):
            inner = _missing(wanted, said)
            if inner:
                missing[key] = inner
        elif key not in reported or not _is_same(wanted, said):
            missing[key] = wanted
    return missing


def _patched(
    side: Mapping[str, Json], patch: Mapping[str, Json], what: str
) -> dict[str, Json]:
    _check_json(patch, what)
    merged = merge_patch(dict(side), dict(patch))
    if not isinstance(merged, dict):  # a patch that is an object gives an object
        raise DataError(f"{what} is no object", hint="Send an object.")
    size_bytes = len(_ENCODER.encode(merged))
    if size_bytes > LARGEST_SIDE_BYTES:
        raise DataError(
            f"{what} would have {size_bytes} bytes, at most {LARGEST_SIDE_BYTES} are"
            " allowed",
            hint="Keep large things as blobs and name them by their hash.",
        )
    return merged


def _check_json(value: object, what: str, depth: int = 0) -> None:
    """Refuse what JSON cannot hold, or what is nested beyond all use."""
    if isinstance(value, int) and abs(value) > LARGEST_NUMBER:
        raise DataError(
            f"{what}: a whole number of more than 64 bits", hint="Write it as text."
        )
    is_number = isinstance(value, int | float) and math.isfinite(value)
    if value is None or is_number or isinstance(value, str):
        return
    if isinstance(value, Mapping) and depth < DEEPEST:
        if not all(isinstance(key, str) for key in value):
            raise DataError(f"{what}: a key is no text", hint="Use text for keys.")
        for inner in value.values():
            _check_json(inner, what, depth + 1)
    elif isinstance(value, list | tuple) and depth < DEEPEST:
        for inner in value:
            _check_json(inner, what, depth + 1)
    elif isinstance(value, Mapping | list | tuple):
        raise DataError(
            f"{what} would be more than {DEEPEST} levels deep",
            hint="Make it flatter.",
        )
    else:
        raise DataError(f"{what}: {value!r:.80} is not JSON", hint="Send JSON.")


def _changed_keys(before: Mapping[str, Json], after: Mapping[str, Json]) -> set[str]:
    return {
        key
        for key in {*before, *after}
        if key not in before
        or key not in after
        or not _is_same(before[key], after[key])
    }


def _is_same(one: Json, other: Json) -> bool:
    # In Python True == 1 == 1.0; in JSON they are three values.
    return _ENCODER.encode(one) == _ENCODER.encode(other)


def _stamped(
    stamps: Mapping[str, Stamp],
    changed: set[str],
    stamp: Stamp,
    side: Mapping[str, Json],
) -> dict[str, Stamp]:
    stamped = {**stamps, **dict.fromkeys(changed, stamp)}
    removed = sorted(
        (key for key in stamped if key not in side),
        key=lambda key: (-stamped[key].version, key),
    )
    for key in removed[REMOVED_STAMPS:]:
        del stamped[key]
    return stamped
