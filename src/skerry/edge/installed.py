"""A release as it lies on a gateway's disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from skerry.core.release import Manifest, ReleaseId, ReleaseModel


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """A release whose files are whole and in place.

    Attributes:
        manifest: What was signed.
        model: The model of it that is for this gateway.
        files: Where each blob lies, by role (`model`, `golden`, `task`, `drift`,
            `gallery`).
    """

    manifest: Manifest
    model: ReleaseModel
    files: Mapping[str, Path]

    @property
    def id(self) -> ReleaseId:
        """The release's name and version."""
        return self.manifest.id
