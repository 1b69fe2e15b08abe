"""One self-contained HTML page that shows every result.

Reads all that `train`, `evaluate`, `explain` and `compare` wrote; writes report.html. It holds no
numbers of its own: what it prints stands in the JSON files, formatted, or is read off an interval.
"""

import logging
from collections.abc import Callable
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
from visavis.report import labels, text
from visavis.report.definitions import Links
from visavis.report.drawings import SCORES, charts, image_grids
from visavis.report.explorer import explorer_parts
from visavis.report.figures.heatmaps import heat_gradient, image_figure
from visavis.report.figures.style import svg
from visavis.report.material import Material
from visavis.report.recipe import command
from visavis.report.table import OUTCOMES
from visavis.report.tabulated import tables
from visavis.report.text import numbers

log = logging.getLogger(__name__)


def report(experiment: Path) -> Path:
    """Write report.html and return its path.

    Raises:
        CheckpointError: a stage before this one has not finished.
    """
    path = experiment / run_folder.REPORT
    write_bytes(path, render(Material.read(experiment)).encode())
    log.info("wrote %s", path)
    return path


def figures(experiment: Path) -> dict[str, Figure]:
    """All figures of the report, by name: for a tracker or a notebook."""
    material = Material.read(experiment)
    grids = {name: image_figure(groups) for name, groups in image_grids(material).items() if groups}
    return {**charts(material), **grids}


def render(material: Material) -> str:
    """The page as HTML."""
    drawn = charts(material)
    return (
        environment(material)
        .get_template("report.html.j2")
        .render(
            content(material),
            charts={name: Markup(svg(figure, name)) for name, figure in drawn.items()},
            galleries=image_grids(material),
            gradient=heat_gradient(),
            explorer=explorer_parts(material),
            buckets=labels.bucket_names(material.labels),
        )
    )


def environment(material: Material, finalize: Callable[[Any], Any] | None = None) -> Environment:
    """What the templates of a report may call.

    Args:
        finalize: applied to everything that a template prints, for Markdown; HTML needs none.
    """
    found = templates(finalize)
    explained = {role: model.explanations for role, model in material.models.items()}

    def map_of(role: str, article: str = "the") -> str:
        of = explained[role]
        name = labels.named(of["default_method"], of["methods"])
        return f"{labels.the(material.labels[role], article)}’s {name}"

    found.globals |= {"text": text, "map_of": map_of}
    return found


def templates(finalize: Callable[[Any], Any] | None = None) -> Environment:
    """Where the templates of all pages are, and what they call."""
    found = Environment(
        loader=jinja2.PackageLoader("visavis.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=finalize,
    )
    found.globals |= {"the": labels.the, "family": labels.family, "outcomes": OUTCOMES}
    for filter in (
        *(numbers.capital, numbers.count, numbers.decimal, numbers.duration, numbers.p_value),
        *(numbers.percent, numbers.points, numbers.score, numbers.share, side),
        labels.named,
    ):
        found.filters[filter.__name__] = filter
    found.filters["png"] = data_address
    links = Links(visible=finalize is None)
    found.filters |= {"linked": links.linked, "headed": links.headed}
    found.globals["definitions_needed"] = links.needed
    return found


def content(material: Material) -> dict[str, Any]:
    """What the templates of a report show, whatever they make of it."""
    models = material.models
    return {
        "data": models["first"].data,
        "comparison": material.comparison,
        "models": models,
        "explanations": {role: model.explanations for role, model in models.items()},
        "class_names": material.class_names,
        "tables": tables(material),
        "cross_model": material.cross_model,
        "labels": material.labels,
        "command": command(material.experiment) if material.experiment else None,
        "scores": SCORES,
        "same_machine": material.same_machine,
    }
