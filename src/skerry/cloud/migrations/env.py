"""What alembic runs to apply the steps, on the connection that it is handed."""

from __future__ import annotations

from alembic import context

from skerry.cloud.tables import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    render_as_batch=True,  # SQLite changes a table only by copying it
)
with context.begin_transaction():
    context.run_migrations()
