"""Keep what a search has made and measured, by the hash of all that it depends on.

An entry is a file whose name is the hash of its kind and key (the model, the samples,
the step, the versions of everything that computes) and whose content begins with the
hash of the rest. So nothing has to be believed: an entry that is cut short, garbage or
of another version is not found, and what it held is made anew. Entries are put in
place whole, so an interrupted search leaves those that were finished.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path

import msgspec
import numpy as np

from skerry import __version__
from skerry.core.durable import make_folder, write_file
from skerry.core.errors import SkerryError
from skerry.core.model import Model
from skerry.graph import open_model
from skerry.tasks.samples import SampleSource

CACHE_FOLDER = ".skerry-cache"
"""What the folder is called beside the files that a search has led to."""

SCHEMA = "skerry.cache/1"
_HASH_BYTES = 32
_NAME_DIGITS = 40

Key = Mapping[str, object]
"""What an entry depends on: plain values that have one form as JSON."""


class Cache:
    """A folder of entries, or none: then nothing is found and nothing kept.

    Args:
        folder: The folder; it need not be there. None keeps nothing.

    Example:
        >>> cache = Cache(None)
        >>> cache.put("score", {"model": "ab"}, b"1")
        >>> cache.get("score", {"model": "ab"}) is None
        True
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self.hits = 0
        self.misses = 0

    @property
    def is_kept(self) -> bool:
        """Whether anything is kept at all."""
        return self._folder is not None

    def get(self, kind: str, key: Key) -> bytes | None:
        """The content kept under a key; None where there is none that is whole."""
        content = None
        if self._folder is not None:
            content = _whole(self._folder / _name(kind, key))
        self._count(found=content is not None)
        return content

    def put(self, kind: str, key: Key, content: bytes) -> None:
        """Keep content under a key.

        Raises:
            StorageError: The disk refused.
        """
        if self._folder is None:
            return
        make_folder(self._folder)
        digest = hashlib.sha256(content).digest()
        write_file(self._folder / _name(kind, key), digest + content)

    def model(self, key: Key, make: Callable[[Path], Model], path: Path) -> Model:
        """A model file that is kept under a key, or made now.

        Args:
            key: What it depends on.
            make: Writes it to the path given, and tells what it is.
            path: Where it goes where nothing is kept.

        Raises:
            StorageError: The disk refused.
        """
        if self._folder is None:
            return make(path)
        kept = self._folder / f"{_digest('model', key)}.onnx"
        known = self.get("model", key)
        if known is not None:
            model = _reopen(kept, known.decode("ascii", "replace"))
            if model is not None:
                return model
            self._uncount()
        make_folder(self._folder)
        model = make(kept)
        self.put("model", key, model.sha256.encode())
        return model

    def _count(self, *, found: bool) -> None:
        self.hits += found
        self.misses += not found

    def _uncount(self) -> None:
        """Count what was found, and was not whole after all, as not found."""
        self.hits -= 1
        self.misses += 1


def fingerprint(samples: SampleSource) -> str:
    """The SHA-256 of samples: their inputs and labels, in order; each is read once.

    Raises:
        DataError: A sample cannot be read.
    """
    digest = hashlib.sha256()
    for sample in samples:
        for name in sorted(sample.inputs):
            _feed(digest, name)
            _feed(digest, sample.inputs[name])
        _feed(digest, sample.label)
    return digest.hexdigest()


def versions(**more: str) -> dict[str, str]:
    """The versions of what computes, for a key."""
    return {"skerry": __version__, "numpy": np.__version__, **more}


def _feed(digest: hashlib._Hash, value: object) -> None:
    """Add a value to a hash such that two differ where the values do."""
    if isinstance(value, np.ndarray):
        digest.update(f"{value.dtype.str}{value.shape};".encode())
        digest.update(np.ascontiguousarray(value).data)
    elif is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            _feed(digest, field.name)
            _feed(digest, getattr(value, field.name))
    else:
        digest.update(f"{type(value).__name__}:{value!r};".encode())


def _digest(kind: str, key: Key) -> str:
    whole = {"schema": SCHEMA, "kind": kind, "key": key}
    content = msgspec.json.encode(whole, order="deterministic")
    return hashlib.sha256(content).hexdigest()[:_NAME_DIGITS]


def _name(kind: str, key: Key) -> str:
    return f"{_digest(kind, key)}.{kind}"


def _whole(path: Path) -> bytes | None:
    try:
        content = path.read_bytes()
    except OSError:
        return None
    digest, rest = content[:_HASH_BYTES], content[_HASH_BYTES:]
    return rest if hashlib.sha256(rest).digest() == digest else None


def _reopen(path: Path, sha256: str) -> Model | None:
    try:
        model = open_model(path)
    except SkerryError:
        return None
    return model if model.sha256 == sha256 else None
