"""Profiles that other tools wrote, read into ours: one file a format."""

from __future__ import annotations

from skerry.adapt.profiles.read import parse_profiles, read_profiles

__all__ = ["parse_profiles", "read_profiles"]
