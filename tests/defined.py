"""Which numbers of tables link to no definition."""

from collections.abc import Mapping

from visavis.report.definitions import Links
from visavis.report.table import Table


def undefined(tables: Mapping[str, Table]) -> set[str]:
    """The columns with numbers that no definition says the meaning of.

    A column that is named after a model says whose numbers these are; their meaning is that of the
    row or of the first column.
    """
    found = set()
    for name, table in tables.items():
        first, *heads = table.headings
        for row in table.rows:
            cells = [cell for cell in row.cells for _ in range(cell.span)]
            for head, cell in zip(heads, cells, strict=True):
                of_model = head.role or " minus " in head.text
                names = [head.alone or head.text, *([row.name, first.text] if of_model else ())]
                if cell.value is not None and not any(map(_defined, names)):
                    found.add(f"{name}: {head.text}")
    return found


def _defined(name: str) -> bool:
    return "<a " in Links(visible=True).headed(name)
