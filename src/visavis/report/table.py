"""A table of the report, before it becomes HTML, Markdown, LaTeX or CSV."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from visavis.report.text import numbers
from visavis.report.text.numbers import Interval


class Cell(NamedTuple):
    """What a table shows, and the number behind it."""

    text: str
    value: float | Interval | Sequence[float] | None = None
    """A number, an interval or several numbers, as they stand in the JSON files; None for words."""
    span: int = 1
    """Columns that it covers."""
    code: bool = False
    """The text is not words."""
    outcome: str = ""
    """Of a check: one of OUTCOMES."""


OUTCOMES = {"passed": "●", "not significant": "○", "failed": "✕", "not applicable": "–"}
"""The mark of each outcome of a check."""


class Heading(NamedTuple):
    """The name of a column."""

    text: str
    role: str = ""
    """Of the model that the column belongs to."""
    alone: str = ""
    """What it is called without its neighbours, if they say what its text does not."""


class Row(NamedTuple):
    """A row: its name, which follows that of a model if it belongs to one, and its cells."""

    name: str
    cells: Sequence[Cell]
    role: str = ""
    model: str = ""
    """What the model of `role` is called."""
    tag: str = ""
    """A remark on the name, such as "default"."""
    code: bool = False
    """The name is one of the program's."""

    @property
    def label(self) -> str:
        """The name in full, as text."""
        tag = f" ({self.tag})" if self.tag else ""
        return f"{self.model} {self.name}".strip() + tag


@dataclass(frozen=True)
class Table:
    """Rows of the same columns; the first heading is that of their names."""

    title: str
    headings: Sequence[Heading]
    rows: Sequence[Row]

    @property
    def cells(self) -> list[list[Cell]]:
        """The rows with as many cells as there are headings; a name is one."""
        filled = []
        for row in self.rows:
            cells = [Cell(row.label)]
            for cell in row.cells:
                cells += [cell, *[Cell("")] * (cell.span - 1)]
            filled.append(cells)
        return filled


def marked(cell: Cell) -> str:
    """The text of a cell behind the mark of its outcome, if it has one."""
    return f"{OUTCOMES[cell.outcome]} {cell.text}".strip() if cell.outcome else cell.text


def score(interval: Interval | None, digits: int = 2) -> Cell:
    """0.42 (0.39 to 0.45)."""
    return Cell(numbers.score(interval, digits), interval)


def share(interval: Interval | None) -> Cell:
    """90.3 % (89.7 to 90.9)."""
    return Cell(numbers.share(interval), interval)


def points(interval: Interval | None) -> Cell:
    """9.8 percentage points (9.0 to 10.6)."""
    return Cell(numbers.points(interval), interval)


def count(value: int) -> Cell:
    """12,345."""
    return Cell(numbers.count(value), value)


def duration(seconds: float | None) -> Cell:
    """8 min 8 s."""
    return Cell("–" if seconds is None else numbers.duration(seconds), seconds)


def fixed(value: float, digits: int = 2) -> Cell:
    """A number without an interval: 0.42."""
    return Cell(numbers.decimal(value, digits), value)


def plain(value: Any) -> Cell:
    """A setting, or a fact about a run."""
    if value is None or value == "":
        return Cell("–")
    if isinstance(value, bool):
        return Cell("yes" if value else "no")
    if isinstance(value, list | tuple):
        return Cell(" ".join(map(str, value)))
    return Cell(str(value), value if isinstance(value, int | float) else None)


def headings(*names: str | Heading) -> list[Heading]:
    """The headings of a table."""
    return [Heading(name) if isinstance(name, str) else name for name in names]


def of_models(labels: Mapping[str, str]) -> list[Heading]:
    """A heading for each model."""
    return [Heading(label, role) for role, label in labels.items()]


def of_both(labels: Mapping[str, str], first: str, second: str) -> list[Heading]:
    """Two headings for each model, of which only the first names it."""
    return [
        heading
        for role, label in labels.items()
        for heading in (
            Heading(f"{label}: {first}", role),
            Heading(second, role, f"{label}: {second}"),
        )
    ]
