"""The hub: registry, shadows, releases, rollouts, samples, its HTTP API."""

from __future__ import annotations

from importlib.util import find_spec

from skerry.core.errors import MissingExtraError

for _module in ("alembic", "fastapi", "jinja2", "sqlalchemy"):
    if find_spec(_module) is None:
        raise MissingExtraError(_module, extra="hub")
