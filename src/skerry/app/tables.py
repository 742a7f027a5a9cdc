"""Tables and paragraphs as the commands print them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table


def plain_table(*columns: str) -> Table:
    """Make a table without lines; a title that begins with `#` is one of numbers.

    Long cells fold, so that nothing is cut off where output goes to a file.
    """
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in columns:
        if title.startswith("#"):
            table.add_column(title[1:], justify="right", overflow="fold")
        else:
            table.add_column(title, overflow="fold")
    return table


def indent(words: RenderableType, columns: int = 2) -> RenderableType:
    """Indent a paragraph, its further lines too."""
    from rich.padding import Padding

    return Padding(words, (0, 0, 0, columns))
