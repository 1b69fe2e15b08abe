"""The notebook, executed on a tiny run."""

import asyncio
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from visavis import run_folder

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "visavis.ipynb"

TINY = """
import sys
sys.path.insert(0, {tests!r})
import small
from visavis import data, presets
from visavis.report import page
presets.preset = lambda name, source, side=32: small.experiment()
data.resolve = lambda config: small.dataset()
page.svg = lambda figure, name="": ""  # of the report, which is not looked at
OUT = {out!r}
"""


def test_the_committed_notebook_has_no_outputs():
    for cell in nbformat.read(NOTEBOOK, as_version=4).cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_every_cell_runs_and_writes_a_report(tmp_path):
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    out = tmp_path / "experiment"
    for cell in notebook.cells:  # the same models, narrower
        cell.source = cell.source.replace("widths=(32, 64, 128)", "widths=(4, 8, 8)")
        cell.source = cell.source.replace("width=96, depth=4", "width=24, depth=2")
    notebook.cells[1].source += TINY.format(tests=str(Path(__file__).parent), out=str(out))
    client = NotebookClient(notebook, timeout=600, kernel_name="python3")
    manager = client.create_kernel_manager()
    # The kernel of this environment, whatever else is registered as python3.
    manager.kernel_spec.argv[0] = sys.executable
    asyncio.run(client.async_execute())
    assert (out / run_folder.REPORT).exists()
    images = [
        output
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]
    assert len(images) >= 7
