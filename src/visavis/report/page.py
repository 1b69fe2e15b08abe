"""One self-contained HTML page that shows every result.

Reads all that `train`, `evaluate`, `explain` and `compare` wrote; writes report.html. It holds no
numbers of its own: what it prints stands in the JSON files, formatted, or is read off an interval.
"""

import logging
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from matplotlib.figure import Figure

from visavis import run_folder
from visavis.data.images import data_address
from visavis.files import write_bytes
from visavis.metrics.significance import side
from visavis.report import labels, text
from visavis.report.drawings import SCORES, charts, image_grids
from visavis.report.explorer import explorer_parts
from visavis.report.figures.heatmaps import heat_gradient, image_figure
from visavis.report.figures.style import svg
from visavis.report.material import Material
from visavis.report.recipe import command, settings
from visavis.report.text import numbers
from visavis.run_folder import ModelFolder

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


def environment() -> jinja2.Environment:
    """Where the templates of the pages are, and what they call."""
    found = jinja2.Environment(
        loader=jinja2.PackageLoader("visavis.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.globals |= {"text": text, "the": labels.the}
    for filter in (
        *(numbers.capital, numbers.count, numbers.decimal, numbers.duration, numbers.p_value),
        *(numbers.other_classes, numbers.percent, numbers.points, numbers.score),
        *(numbers.share, side),
        labels.named,
    ):
        found.filters[filter.__name__] = filter
    found.filters["png"] = data_address
    return found


def render(material: Material) -> str:
    """The page as HTML."""
    models = material.models
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            data=models["first"].data,
            comparison=material.comparison,
            models=models,
            explanations={role: model.explanations for role, model in models.items()},
            class_names=material.class_names,
            charts={name: Markup(svg(figure, name)) for name, figure in charts(material).items()},
            galleries=image_grids(material),
            gradient=heat_gradient(),
            explorer=explorer_parts(material),
            cross_model=material.cross_model,
            labels=material.labels,
            buckets=labels.bucket_names(material.labels),
            command=command(material.experiment) if material.experiment else None,
            settings=settings(_settings(model) for model in models.values()),
            scores=SCORES,
            same_machine=material.same_machine,
        )
    )


def _settings(model: ModelFolder) -> dict[str, Any]:
    """Those of a training only if it happened here."""
    settings = model.config["model"]
    return {key: of for key, of in settings.items() if key != "optim" or model.history}
