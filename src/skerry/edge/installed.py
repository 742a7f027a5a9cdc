"""A release as it lies on a gateway's disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from skerry.core.errors import DataError
from skerry.core.files import LARGEST_FILE_BYTES
from skerry.core.model import TensorSpec
from skerry.core.release import Manifest, ReleaseId, ReleaseModel
from skerry.edge.adapters import Adapter
from skerry.edge.vault import CLEAR, Vault


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """A release whose files are whole and in place.

    Attributes:
        manifest: What was signed.
        model: The model of it that is for this gateway.
        files: Where each blob lies, by role (`model`, `golden`, `task`, `drift`,
            `gallery`, `library.0` …).
        adapter: Goes between what producers here send, and consumers read, and the
            model; None where that is alike.
        vault: Keeps the files.
    """

    manifest: Manifest
    model: ReleaseModel
    files: Mapping[str, Path]
    adapter: Adapter | None = None
    vault: Vault = CLEAR

    @property
    def id(self) -> ReleaseId:
        """The release's name and version."""
        return self.manifest.id

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What producers here send."""
        return self.adapter.inputs if self.adapter else self.model.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """What consumers here read."""
        return self.adapter.outputs if self.adapter else self.model.outputs

    def read(self, role: str) -> bytes:
        """The content of a file.

        Raises:
            KeyError: There is none of this role.
            DataError: It cannot be read, is not what was sealed there, or is larger
                than any but a model may be.
        """
        path = self.files[role]
        try:
            size_bytes = self.vault.size_bytes(path)
            content = b"" if size_bytes > LARGEST_FILE_BYTES else self.vault.read(path)
        except OSError as error:
            raise DataError(
                f"cannot read {path}: {error.strerror or error}",
                hint="Look after the gateway's disk.",
            ) from error
        if size_bytes > LARGEST_FILE_BYTES:
            raise DataError(
                f"{path} has {size_bytes} bytes, at most {LARGEST_FILE_BYTES} expected",
                hint="Make the release again.",
            )
        return content

    def libraries(self, abi: str) -> tuple[Path, ...]:
        """The libraries of operators for an ABI, in the order of the manifest.

        Raises:
            KeyError: One of them is not here.
        """
        return tuple(
            self.files[f"library.{place}"]
            for place, library in enumerate(self.model.libraries)
            if library.abi == abi
        )
