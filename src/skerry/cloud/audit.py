"""The audit log: who changed what, kept in the transaction of the change itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
from sqlalchemy import Connection, insert, select

from skerry.cloud import tables
from skerry.cloud.database import to_text
from skerry.core.documents import Json

_MOST_CHARACTERS = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """A line of the audit log.

    Attributes:
        at_ms: When, milliseconds since 1970.
        who: The person or the device.
        what: The name of the change.
        document: Its particulars.
    """

    at_ms: int
    who: str
    what: str
    document: Mapping[str, Json]


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
    write_audits(connection, at_ms=at_ms, who=who, what=what, documents=[document])


def write_audits(
    connection: Connection,
    *,
    at_ms: int,
    who: str,
    what: str,
    documents: Sequence[Mapping[str, Json]],
) -> None:
    """Add a line for each of many changes of one kind; see `write_audit`."""
    lines = [
        {
            "at_ms": at_ms,
            "who": who[:_MOST_CHARACTERS],
            "what": what[:_MOST_CHARACTERS],
            "document": to_text(document),
        }
        for document in documents
    ]
    if lines:
        connection.execute(insert(tables.audit), lines)


def read_acts(
    connection: Connection, *, kind: str, key: str, name: str
) -> tuple[Act, ...]:
    """Read the lines of one kind about one thing, the oldest first.

    Args:
        connection: Of any transaction.
        kind: What their names begin with, such as `rollout`.
        key: Under which key their particulars name the thing.
        name: The thing's name.
    """
    table = tables.audit
    wanted = (
        select(table)
        .where(table.c.what.startswith(f"{kind}."))
        .where(table.c.document.contains(to_text({key: name})[1:-1], autoescape=True))
        .order_by(table.c.id)
    )
    acts = [
        Act(
            at_ms=row["at_ms"],
            who=row["who"],
            what=row["what"],
            document=msgspec.json.decode(row["document"]),
        )
        for row in connection.execute(wanted).mappings()
    ]
    return tuple(act for act in acts if act.document.get(key) == name)
