"""What the table of commands says of one command."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One command.

    Attributes:
        name: What is typed after `skerry`, one or two words.
        run: Where its function is, as `module:name`; the function returns a result.
        render: Where the function is that renders such a result for people.
        summary: One line for the list of commands.
        examples: Command lines without `skerry`, shown at the end of its help.
    """

    name: str
    run: str
    render: str
    summary: str
    examples: tuple[str, ...]
