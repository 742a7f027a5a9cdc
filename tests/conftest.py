"""Set-up that all tests share."""

from __future__ import annotations

from hypothesis import settings

# Test machines are shared: how long an example takes says nothing about the property.
settings.register_profile("skerry", deadline=None)
settings.load_profile("skerry")
