"""A table as CSV, Markdown and LaTeX."""

import csv
import io
import re
import textwrap
from collections.abc import Mapping, Sequence

from visavis.report.export.escape import latex, markdown
from visavis.report.table import Cell, Row, Table, marked
from visavis.report.text.numbers import THIN

LONG = 40
"""Rows; a longer LaTeX table goes over several pages."""
WIDE = 100
"""Characters; in a wider LaTeX table, what stands in brackets comes below the number."""

ENDS = {of: of for of in ("low", "high", "lowest", "highest")} | {
    f"{end}_other_classes": f"{end}, other classes" for end in ("low", "high")
}
"""What CSV calls the ends of an interval, or of several trainings."""


def as_csv(table: Table) -> str:
    """As CSV: numbers as the JSON files hold them, an interval as three columns or five."""
    rows = table.cells
    parts = [_parts([row[place] for row in rows]) for place in range(len(table.headings))]
    names = [head.alone or head.text for head in table.headings]
    head = [
        f"{name} {ENDS[part]}" if part in ENDS else name
        for name, of in zip(names, parts, strict=True)
        for part in of
    ]
    lines = [
        [_part(cell, part) for cell, of in zip(row, parts, strict=True) for part in of]
        for row in rows
    ]
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows([head, *lines])
    return file.getvalue()


def _parts(column: Sequence[Cell]) -> list[str]:
    """The columns that one column becomes: of its values, and of the ends of their intervals."""
    found = {key for cell in column if isinstance(cell.value, Mapping) for key in cell.value}
    return ["value", *(key for key in ENDS if key in found)]


def _part(cell: Cell, part: str) -> str:
    if isinstance(cell.value, Mapping):
        return repr(cell.value[part]) if part in cell.value else ""
    if part != "value":
        return ""
    if isinstance(cell.value, Sequence):
        return " ".join(map(repr, cell.value))
    if cell.value is not None:
        return repr(cell.value)
    words = f"{cell.outcome}: {cell.text}" if cell.outcome else cell.text
    return "" if words in ("–", "not available") else words.replace(THIN, " ")


def as_markdown(table: Table) -> str:
    """As a table of Markdown, numbers to the right."""
    rows = [[head.text for head in table.headings]]
    rows += [[marked(cell) for cell in row] for row in table.cells]
    cells = [[markdown(text).replace("|", r"\|") for text in row] for row in rows]
    lines = [f"| {' | '.join(row)} |" for row in cells]
    lines.insert(1, f"| --- |{' ---: |' * (len(table.headings) - 1)}")
    return "\n".join(lines) + "\n"


def as_latex(table: Table, name: str, note: str = "") -> str:
    """As LaTeX with booktabs; one that is too wide shrinks to the line (graphicx).

    Args:
        name: for the label, tab:NAME.
        note: what its columns mean; follows the title in the caption.
    """
    columns = "l" + "r" * (len(table.headings) - 1)
    texts = [[marked(cell) for cell in row] for row in table.cells]
    broken = sum(max(map(len, column)) for column in zip(*texts, strict=True)) > WIDE
    first, *others = (of.text for of in table.headings)
    wrapped = [textwrap.wrap(text, 16) if broken else [text] for text in others]
    head = [latex(first), *(_lines(lines, "b") for lines in wrapped)]
    caption = f"\\caption{{{latex(f'{table.title}. {note}'.strip())}}}\n\\label{{tab:{name}}}"
    lines = [
        rf"{' & '.join(head)} \\",
        r"\midrule",
        *(_latex_row(row, broken) for row in table.rows),
    ]
    if len(table.rows) > LONG:
        body = "\n".join([r"\toprule", *lines, r"\bottomrule"])
        content = f"\\begin{{longtable}}{{{columns}}}\n{caption} \\\\\n{body}\n\\end{{longtable}}"
        return f"{{\\footnotesize\n{content}\n}}\n"
    body = "\n".join([r"\toprule", *lines, r"\bottomrule"])
    tabular = f"\\begin{{tabular}}{{{columns}}}\n{body}\n\\end{{tabular}}"
    width = r"\ifdim\width>\linewidth\linewidth\else\width\fi"
    return (
        f"\\begin{{table}}[htbp]\n\\centering\n\\footnotesize\n{caption}\n"
        f"\\resizebox{{{width}}}{{!}}{{%\n{tabular}}}\n\\end{{table}}\n"
    )


def _lines(lines: Sequence[str], align: str = "t") -> str:
    """Lines one below the other within a cell, of which the first or the last (b) is aligned."""
    texts = [latex(line) for line in lines]
    stack = r" \\ ".join(texts)
    if len(texts) < 2:
        return stack
    return rf"\begin{{tabular}}[{align}]{{@{{}}r@{{}}}}{stack}\end{{tabular}}"


def _latex_row(row: Row, broken: bool) -> str:
    texts = [latex(row.label)]
    for cell in row.cells:
        text = marked(cell)
        text = _lines(re.split(r" (?=[(\[])|(?<=,) ", text)) if broken else latex(text)
        texts.append(rf"\multicolumn{{{cell.span}}}{{r}}{{{text}}}" if cell.span > 1 else text)
    return rf"{' & '.join(texts)} \\"
