"""Other tools' patches of the same pairs; a tool that is missing is named so."""

from __future__ import annotations

import io
import lzma
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import zstandard

LZMA_PRESET = 9 | lzma.PRESET_EXTREME
TIMEOUT_S = 300.0

Peer = Callable[[bytes, bytes], bytes]


def _bsdiff4(old: bytes, new: bytes) -> bytes:
    import bsdiff4

    made: bytes = bsdiff4.diff(old, new)
    return made


def _hdiffpatch(old: bytes, new: bytes) -> bytes:
    import hdiffpatch

    made: bytes = hdiffpatch.diff(old, new, compression="lzma2")
    return made


def _detools(old: bytes, new: bytes) -> bytes:
    import detools

    patch = io.BytesIO()
    detools.create_patch(io.BytesIO(old), io.BytesIO(new), patch, compression="lzma")
    return patch.getvalue()


def _xdelta3(old: bytes, new: bytes) -> bytes:
    if shutil.which("xdelta3") is None:
        raise ImportError("xdelta3: apt-get install xdelta3")
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in ("old", "new", "patch")]
        for path, content in zip(paths, (old, new), strict=False):
            path.write_bytes(content)
        command = ["xdelta3", "-e", "-9", "-S", "lzma", "-s", *map(str, paths)]
        subprocess.run(command, check=True, timeout=TIMEOUT_S)
        return paths[2].read_bytes()


def _zstd_patch_from(old: bytes, new: bytes) -> bytes:
    parameters = zstandard.ZstdCompressionParameters.from_level(
        19, window_log=max((len(old) + len(new)).bit_length(), 17), enable_ldm=True
    )
    dictionary = zstandard.ZstdCompressionDict(
        old, dict_type=zstandard.DICT_TYPE_RAWCONTENT
    )
    return zstandard.ZstdCompressor(
        compression_params=parameters, dict_data=dictionary
    ).compress(new)


PEERS: Mapping[str, Peer] = {
    "bsdiff4": _bsdiff4,
    "HDiffPatch": _hdiffpatch,
    "detools": _detools,
    "xdelta3": _xdelta3,
    "zstd --patch-from": _zstd_patch_from,
}


def full_sizes(new: bytes) -> dict[str, int]:
    """The size of a file, packed alone, by tool."""
    return {
        "xz -9e": len(lzma.compress(new, preset=LZMA_PRESET)),
        "zstd -19": len(zstandard.ZstdCompressor(level=19).compress(new)),
        "zstd -22": len(zstandard.ZstdCompressor(level=22).compress(new)),
    }


def peer_sizes(old: bytes, new: bytes) -> tuple[dict[str, int], dict[str, str]]:
    """The size of each peer's patch, and why some have none."""
    sizes, missing = {}, {}
    for name, diff in PEERS.items():
        try:
            sizes[name] = len(diff(old, new))
        except ImportError as error:
            missing[name] = f"missing: {error}"
        except (OSError, ValueError, RuntimeError, subprocess.SubprocessError) as error:
            missing[name] = f"failed: {error}"
    return sizes, missing
