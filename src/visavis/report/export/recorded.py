"""What one takes away of a page: which figures and tables it shows, and its text as Markdown."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup
from matplotlib.figure import Figure

from visavis.report.citations import reference, works
from visavis.report.export.bundle import Bundle, Captioned, Plate
from visavis.report.export.escape import markdown, plain, slug
from visavis.report.export.print_size import fits, to_print_size
from visavis.report.export.tabular import as_markdown
from visavis.report.figures.heatmaps import Group, image_figure
from visavis.report.page import Page, templates
from visavis.report.table import Table

Groups = list[Group]


def _printed(value: Any) -> Any:
    """What a template prints, as Markdown; what a macro printed is Markdown already."""
    return value if isinstance(value, Markup) else Markup(markdown(str(value)))


class _Recorded:
    """Notes the figures and tables that the templates show, and returns their Markdown."""

    def __init__(self, page: Page) -> None:
        self.plates: list[Plate] = []
        self.tables: dict[str, Captioned] = {}
        known = [*page.charts.items(), *page.grids.items(), *page.tables.items()]
        self._names = {id(of): name for name, of in known}
        self._folders = page.folders
        self._place = ""

    def enter(self, place: str) -> str:
        """Begin a part of the assignment, such as "1.2 c", or a section; prints nothing."""
        self._place = place
        return ""

    def charts(self, figures: Sequence[Figure], caption: str) -> Markup:
        """Charts under one caption."""
        return self._plate({self._file(of): to_print_size(of) for of in figures}, caption)

    def images(self, groups: Groups, caption: str) -> Markup:
        """A grid of images; one that is too high for a page becomes a figure for each group."""
        name, whole, text = self._file(groups), image_figure(groups), _plain(caption)
        if fits(whole) or len(groups) == 1:
            return self._grid(name, whole, text)
        split = [
            self._grid(slug(name, of.title), image_figure([of]), f"{of.title}. {text}")
            for of in groups
            if of.rows
        ]
        return Markup("\n\n").join(split)

    def _grid(self, name: str, figure: Figure, caption: str) -> Markup:
        figure.set_label(caption.split(". ")[0])
        return self._plate({name: to_print_size(figure, images=True)}, caption)

    def table(self, table: Table) -> Markup:
        """A table."""
        self.tables[self._file(table)] = Captioned(table, "")
        title = f"*Table {len(self.tables)}.* {markdown(table.title)}"
        return Markup(f"{title}\n\n{as_markdown(table)}")

    def note(self, text: str) -> str:
        """The paragraph under a table, which says what its columns mean."""
        if self.tables:
            name = next(reversed(self.tables))
            table, note = self.tables[name]
            self.tables[name] = Captioned(table, note or _plain(text))
        return text

    def _plate(self, figures: dict[str, Figure], caption: str) -> Markup:
        self.plates.append(Plate(figures, _plain(caption)))
        lines = [
            f"![{markdown(str(figure.get_label()))}](figures/{name}.png)"
            for name, figure in figures.items()
        ]
        below = caption if isinstance(caption, Markup) else markdown(caption)
        return Markup("\n".join(lines) + f"\n\n*Figure {len(self.plates)}.* {below}")

    def _file(self, of: Figure | Groups | Table) -> str:
        """The name of the file: part or section, model, and what it shows."""
        name = self._names[id(of)]
        role, _, rest = name.partition("_")
        words = [self._folders[role], rest] if role in self._folders else [name]
        return slug(*dict.fromkeys([self._place, *words]))


def _plain(text: str) -> str:
    return plain(text) if isinstance(text, Markup) else text


def bundle(folder: Path) -> Bundle:
    """The figures, tables, text and works of the page of an experiment or a study, in its order.

    Raises:
        CheckpointError: a stage before this one has not finished, or a file is damaged.
    """
    page, keys = Page.of(folder), works(folder)
    found, recorded = templates(_printed), _Recorded(page)
    found.globals["recorded"] = recorded
    cited = [reference(key) for key in keys]
    text = found.get_template(f"{page.template}.md.j2").render(page.shown(), cited=cited)
    text = re.sub(r"\s*\n(\s*\n)+", "\n\n", text).strip() + "\n"
    return Bundle(page.title, text, recorded.plates, recorded.tables, keys)
