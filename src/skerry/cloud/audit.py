"""The audit log: who changed what, kept in the transaction of the change itself."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection, insert

from skerry.cloud import tables
from skerry.cloud.database import to_text
from skerry.core.documents import Json

_MOST_CHARACTERS = 255


def write_audit(
    connection: Connection,
    *,
    at_ms: int,
    who: str,
    what: str,
    document: Mapping[str, Json],
) -> None:
    """Add a line.

    Args:
        connection: Of the transaction that makes the change.
        at_ms: When, milliseconds since 1970.
        who: The person or the device.
        what: The name of the change, such as `device.created`.
        document: Its particulars; never a secret.
    """
    connection.execute(
        insert(tables.audit).values(
            at_ms=at_ms,
            who=who[:_MOST_CHARACTERS],
            what=what[:_MOST_CHARACTERS],
            document=to_text(document),
        )
    )
