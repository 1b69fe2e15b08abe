"""What one takes away of a page, whatever it is about: figures, tables, text and works."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from matplotlib.figure import Figure

from visavis.report.table import Table


class Plate(NamedTuple):
    """One or more figures under one caption."""

    figures: dict[str, Figure]
    """By the name of their files, in print size."""
    caption: str
    """As plain text."""


class Captioned(NamedTuple):
    """A table, and what its columns mean."""

    table: Table
    note: str
    """As plain text; may be empty."""


@dataclass(frozen=True)
class Bundle:
    """All of it, in the order of the page."""

    title: str
    markdown: str
    """The page, with its figures as figures/NAME.png."""
    plates: Sequence[Plate]
    tables: dict[str, Captioned]
    """By the name of their files."""
    works: Sequence[str]
    """Keys of `citations.known`."""
