"""What one takes away of the report on an experiment."""

from visavis.report.citations import reference, works
from visavis.report.drawings import charts, image_grids
from visavis.report.export.bundle import Bundle
from visavis.report.export.recorded import Recorded, printed
from visavis.report.figures.galleries import figure_1
from visavis.report.material import Material
from visavis.report.page import content, environment
from visavis.run_folder import folder_name


def bundle(material: Material) -> Bundle:
    """The figures, tables, text and works of the report, in its order."""
    shown, keys = content(material), works(material)
    drawn = charts(material)
    grids = image_grids(material)
    grids["figure_1"] = figure_1(material.models["first"], material.class_names)
    folders = {role: folder_name(model.name) for role, model in material.models.items()}
    recorded = Recorded({**drawn, **grids}, shown["tables"], folders)
    text = recorded.render(
        environment(material, finalize=printed),
        "report.md.j2",
        **shown,
        charts=drawn,
        galleries=grids,
        figure_1=grids["figure_1"],
        cited=[reference(key) for key in keys],
    )
    return Bundle(
        title=f"{material.labels['first']} and {material.labels['second']}, face to face",
        markdown=text,
        plates=recorded.plates,
        tables=recorded.tables,
        works=keys,
    )
