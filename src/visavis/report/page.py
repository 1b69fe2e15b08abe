"""Self-contained HTML pages: the report on an experiment, and that on a study.

Read all that `train`, `evaluate`, `explain`, `cross_model` and `compare`, or `summarise`, wrote;
write report.html or study.html. They hold no numbers of their own: what they print stands in the
JSON files, formatted, or is read off an interval.
"""

import functools
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import jinja2
from jinja2 import Environment
from markupsafe import Markup
from matplotlib.figure import Figure

from visavis import run_folder
from visavis.data.images import data_address
from visavis.files import write_bytes
from visavis.metrics.significance import side
from visavis.report import labels, tabulated, text
from visavis.report.definitions import Links
from visavis.report.drawings import SCORES, charts, image_grids
from visavis.report.explorer import explorer_parts, static
from visavis.report.figures import study as study_figures
from visavis.report.figures.galleries import figure_1
from visavis.report.figures.heatmaps import Group, heat_gradient, image_figure
from visavis.report.figures.style import svg
from visavis.report.material import Material
from visavis.report.recipe import command
from visavis.report.table import OUTCOMES, Table
from visavis.report.tabulated import study as study_tables
from visavis.report.text import numbers
from visavis.report.text import study as study_text

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Page:
    """What the page of an experiment or a study shows, as HTML or exported."""

    title: str
    template: str
    """Of its HTML and its Markdown: NAME.html.j2 and NAME.md.j2."""
    findings: list[str]
    content: dict[str, Any]
    """What only its own templates use."""
    charts: dict[str, Figure]
    grids: dict[str, list[Group]]
    """Images and their heatmaps."""
    tables: dict[str, Table]
    folders: Mapping[str, str]
    """What a role at the beginning of a name stands for: the folder of that model."""

    @classmethod
    def of(cls, folder: Path) -> "Page":
        """That of an experiment or of a study.

        Raises:
            CheckpointError: a stage before this one has not finished, or a file is damaged.
        """
        if run_folder.is_study(folder):
            return cls.of_study(run_folder.read_json(folder / run_folder.RESULTS))
        return cls.of_experiment(Material.read(folder))

    @classmethod
    def of_experiment(cls, material: Material) -> "Page":
        """The report on an experiment."""
        models, comparison = material.models, material.comparison
        explained = {role: model.explanations for role, model in models.items()}
        made = figure_1(models["first"], material.class_names)
        return cls(
            title=f"{material.labels['first']} and {material.labels['second']}, face to face",
            template="report",
            findings=text.findings(
                explained, comparison, material.cross_model, same_machine=material.same_machine
            ),
            content={
                "data": models["first"].data,
                "comparison": comparison,
                "models": models,
                "explanations": explained,
                "class_names": material.class_names,
                "cross_model": material.cross_model,
                "labels": material.labels,
                "command": command(material.experiment) if material.experiment else None,
                "scores": SCORES,
                "same_machine": material.same_machine,
                "buckets": labels.bucket_names(material.labels),
                "explorer_parts": functools.partial(explorer_parts, material),
                "map_of": functools.partial(_map_of, material),
                "text": text,
            },
            charts=charts(material),
            grids={**image_grids(material), "figure_1": made},
            tables=tabulated.tables(material),
            folders={role: run_folder.folder_name(model.name) for role, model in models.items()},
        )

    @classmethod
    def of_study(cls, results: dict[str, Any]) -> "Page":
        """What the trainings of a study show together; `results` is the content of results.json."""
        return cls(
            title=study_text.title(results),
            template="study",
            findings=study_text.findings(results),
            content={"results": results, "text": study_text},
            charts=study_figures.charts(results),
            grids={},
            tables=study_tables.tables(results),
            folders={},
        )

    def shown(self) -> dict[str, Any]:
        """What all templates use."""
        return self.content | {
            "title": self.title,
            "findings": self.findings,
            "charts": self.charts,
            "galleries": self.grids,
            "tables": self.tables,
        }

    def html(self) -> str:
        """All of it in one file."""
        drawn = {name: Markup(svg(figure, name)) for name, figure in self.charts.items()}
        more = {
            "charts": drawn,
            "gradient": heat_gradient(),
            "base_css": static("base.css"),
            "version": metadata.version("visavis"),
        }
        return templates().get_template(f"{self.template}.html.j2").render(self.shown() | more)


def report(folder: Path) -> Path:
    """Write report.html of an experiment, or study.html of a study, and return its path.

    Raises:
        CheckpointError: a stage before this one has not finished, or a file is damaged.
    """
    study = run_folder.is_study(folder)
    path = folder / (run_folder.STUDY_REPORT if study else run_folder.REPORT)
    write_bytes(path, Page.of(folder).html().encode())
    log.info("wrote %s", path)
    return path


def figures(experiment: Path) -> dict[str, Figure]:
    """All figures of the report, by name: for a tracker or a notebook."""
    material = Material.read(experiment)
    grids = {name: image_figure(groups) for name, groups in image_grids(material).items() if groups}
    return {**charts(material), **grids}


def _map_of(material: Material, role: str, article: str = "the") -> str:
    of = material.models[role].explanations
    name = labels.named(of["default_method"], of["methods"])
    return f"{labels.the(material.labels[role], article)}’s {name}"


def templates(finalize: Callable[[Any], Any] | None = None) -> Environment:
    """Where the templates of all pages are, and what they call.

    Args:
        finalize: applied to everything that a template prints, for Markdown; HTML needs none.
    """
    found = Environment(
        loader=jinja2.PackageLoader("visavis.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=finalize,
    )
    found.globals |= {"the": labels.the, "family": labels.family, "outcomes": OUTCOMES}
    for function in (
        *(numbers.capital, numbers.count, numbers.decimal, numbers.duration, numbers.p_value),
        *(numbers.percent, numbers.plural, numbers.points, numbers.score, numbers.share, side),
        labels.named,
    ):
        found.filters[function.__name__] = function
    found.filters["png"] = data_address
    links = Links(visible=finalize is None)
    found.filters |= {"linked": links.linked, "headed": links.headed}
    found.globals["definitions_needed"] = links.needed
    return found
