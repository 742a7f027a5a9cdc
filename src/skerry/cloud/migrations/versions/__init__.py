"""One module a step; alembic orders them by their `down_revision`."""
