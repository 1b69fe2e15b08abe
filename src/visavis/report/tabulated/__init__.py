"""Every table of the report, by name."""

from visavis.report.material import Material
from visavis.report.table import Table
from visavis.report.tabulated import maps, models, provenance, trust


def tables(material: Material) -> dict[str, Table]:
    """The tables that this report has; the name of one model's begins with its role."""
    return {
        **models.tables(material),
        **maps.tables(material),
        **trust.tables(material),
        **provenance.tables(material),
    }
