"""What one takes away of the page of a study."""

from pathlib import Path

from visavis import run_folder
from visavis.report.citations import reference, works_of_study
from visavis.report.export.bundle import Bundle
from visavis.report.export.recorded import Recorded, printed
from visavis.report.figures.variants import all_figures
from visavis.report.page import templates
from visavis.report.study_page import content


def bundle(out: Path) -> Bundle:
    """The figures, tables, text and works of the page of a study, in its order.

    Raises:
        CheckpointError: results.json is missing or damaged.
    """
    results = run_folder.read_json(out / run_folder.RESULTS)
    shown, charts, keys = content(results), all_figures(results), works_of_study(out)
    recorded = Recorded(charts, shown["tables"], {})
    cited = [reference(key) for key in keys]
    return Bundle(
        title=shown["title"],
        markdown=recorded.render(
            templates(printed), "study.md.j2", **shown, charts=charts, cited=cited
        ),
        plates=recorded.plates,
        tables=recorded.tables,
        works=keys,
    )
