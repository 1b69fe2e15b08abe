"""One self-contained HTML page that shows what the trainings of a study show together.

Reads results.json; writes study.html. Like the report of an experiment, it holds no
numbers of its own.
"""

import logging
from importlib import metadata, resources
from pathlib import Path
from typing import Any

from markupsafe import Markup

from visavis import run_folder
from visavis.files import write_bytes
from visavis.report.figures import variants as drawn
from visavis.report.figures.style import svg
from visavis.report.page import templates
from visavis.report.tabulated.study import tables
from visavis.report.text import variants as text

log = logging.getLogger(__name__)


def study_report(out: Path) -> Path:
    """Write study.html and return its path.

    Raises:
        CheckpointError: results.json is missing or damaged.
    """
    results = run_folder.read_json(out / run_folder.RESULTS)
    path = out / run_folder.STUDY_REPORT
    write_bytes(path, render(results).encode())
    log.info("wrote %s", path)
    return path


def render(results: dict[str, Any]) -> str:
    """The page as HTML."""
    charts = drawn.all_figures(results)
    return (
        templates()
        .get_template("study.html.j2")
        .render(
            content(results),
            charts={name: Markup(svg(figure, name)) for name, figure in charts.items()},
            base_css=(resources.files("visavis.report") / "static" / "base.css").read_text("utf-8"),
            version=metadata.version("visavis"),
        )
    )


def content(results: dict[str, Any]) -> dict[str, Any]:
    """What the templates of a study show, whatever they make of it."""
    return {
        "results": results,
        "tables": tables(results),
        "text": text,
        "title": text.title(results),
    }
