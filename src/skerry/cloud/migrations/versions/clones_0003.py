"""When a device was last heard as two at once."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; nobody is known to be a clone."""
    op.add_column("devices", sa.Column("cloned_at_ms", sa.BigInteger))


def downgrade() -> None:
    """Forget it."""
    op.drop_column("devices", "cloned_at_ms")
