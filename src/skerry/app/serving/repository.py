"""The models of `skerry serve`: what may be loaded, as copies that nobody changes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from skerry.app.serving.sources import Found, Source
from skerry.core.durable import make_folder, write_files
from skerry.core.errors import ModelError, RefusedError, UsageError
from skerry.core.names import did_you_mean
from skerry.core.release import Blob, Reason
from skerry.edge.installed import Installed


@dataclass(frozen=True, slots=True, kw_only=True)
class _Staged:
    """What was read at a source last, and where its copy lies."""

    installed: Installed
    blobs: Mapping[str, Blob]
    folder: Path


class SourceRepository:
    """What lies at some sources; each change of one is the next version of its name.

    It may be used from several threads.

    Args:
        sources: One a name.
        folder: Where copies are kept; the server's alone.
        loaded: The versions of a name that are loaded: their copies are kept, for a
            worker that dies loads its model again.

    Raises:
        UsageError: There are two of one name, or none at all.
    """

    def __init__(
        self,
        sources: Iterable[Source],
        folder: Path,
        *,
        loaded: Callable[[str], tuple[int, ...]],
    ) -> None:
        self._sources: dict[str, Source] = {}
        for source in sources:
            if source.name in self._sources:
                raise UsageError(
                    f"two models are to be served as {source.name!r}",
                    hint="Name them: skerry serve one=a.onnx two=b.onnx",
                )
            self._sources[source.name] = source
        if not self._sources:
            raise UsageError("there is nothing to serve", hint="Give a model's file.")
        self._folder = folder
        self._loaded = loaded
        self._lock = threading.Lock()
        self._staged: dict[str, list[_Staged]] = {name: [] for name in self._sources}

    @property
    def names(self) -> tuple[str, ...]:
        """What is served, in the order that was given."""
        return tuple(self._sources)

    def index(self) -> tuple[Installed, ...]:
        """What was read of each name last."""
        with self._lock:
            return tuple(
                staged[-1].installed for staged in self._staged.values() if staged
            )

    def find(self, name: str, version: int | None = None) -> Installed:
        """Read what lies there now: the same as before, or the next version.

        Raises:
            UsageError: There is no such name, or it is of another version.
            RefusedError: What lies there now is no model.
            The errors of `Source.read`.
        """
        if name not in self._sources:
            raise UsageError(
                f"no model {name[:80]!r} is served from here",
                hint=did_you_mean(name[:80], self._sources),
            )
        with self._lock:
            staged = self._stage(name)
        if version not in {None, staged.installed.id.version}:
            raise UsageError(
                f"version {version} of {name!r} is not what lies there",
                hint=f"It is {staged.installed.id}.",
            )
        return staged.installed

    def _stage(self, name: str) -> _Staged:
        before = self._staged[name]
        found = self._read(name, is_reload=bool(before))
        if before and before[-1].blobs == found.blobs:
            return before[-1]
        newest = before[-1].installed.id.version if before else 0
        staged = self._copy(found, newest + 1)
        # The one before is kept too: it may be on its way into the engine.
        needed = {*self._loaded(name), newest}
        kept = [one for one in before if one.installed.id.version in needed]
        for one in before:
            if one not in kept:
                _remove(one.folder)
        self._staged[name] = [*kept, staged]
        return staged

    def _read(self, name: str, *, is_reload: bool) -> Found:
        try:
            return self._sources[name].read()
        except ModelError as error:
            if not is_reload:
                raise
            raise RefusedError(
                f"what lies there for {name!r} cannot be loaded: {error.what}",
                hint=error.hint,
                reason=Reason.LOAD,
            ) from error

    def _copy(self, found: Found, version: int) -> _Staged:
        # A release says its version; one that lies there anew under an old one is new.
        version = max(found.manifest.version, version)
        manifest = replace(found.manifest, version=version)
        folder = self._folder / manifest.name / str(version)
        make_folder(folder)
        write_files(folder, found.contents)
        files = {role: folder / role for role in found.contents}
        installed = Installed(manifest=manifest, model=found.model, files=files)
        return _Staged(installed=installed, blobs=found.blobs, folder=folder)


def _remove(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink(missing_ok=True)
    folder.rmdir()
