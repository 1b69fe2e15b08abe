"""The notebooks, executed on a tiny run."""

import asyncio
import shutil
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from PIL import Image

import small
from visavis import run_folder

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"

TINY = """
import sys
sys.path.insert(0, {tests!r})
import small
from visavis import data, presets
from visavis.attribution import gradients
from visavis.report import export, page
gradients.STEPS = 8
presets.preset = lambda name, source, side=32: small.experiment()
data.resolve = lambda config: small.dataset()
page.svg = lambda figure, name="": ""  # of the report, which is not looked at
export.image_of = lambda figure, name, kind: b""
OUT = {out!r}
"""


@pytest.mark.parametrize("name", ["visavis", "colab"])
def test_a_committed_notebook_has_no_outputs(name):
    for cell in nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4).cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


def execute(notebook):
    """Run all cells in a kernel of this environment, and return the pictures that they show."""
    client = NotebookClient(notebook, timeout=600, kernel_name="python3")
    manager = client.create_kernel_manager()
    # Whatever else is registered as python3.
    manager.kernel_spec.argv[0] = sys.executable
    asyncio.run(client.async_execute())
    return [
        output
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_every_cell_runs_and_writes_a_report(tmp_path):
    notebook = nbformat.read(NOTEBOOKS / "visavis.ipynb", as_version=4)
    out = tmp_path / "experiment"
    for cell in notebook.cells:  # the same models, narrower
        cell.source = cell.source.replace("widths=(32, 64, 128)", "widths=(4, 8, 8)")
        cell.source = cell.source.replace("width=96, depth=4", "width=24, depth=2")
    notebook.cells[1].source += TINY.format(tests=str(Path(__file__).parent), out=str(out))
    images = execute(notebook)
    assert (out / run_folder.REPORT).exists()
    assert len(images) >= 7


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_notebook_for_colab_goes_on_with_an_experiment_and_exports(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "experiment")  # by whoever was disconnected
    (tmp_path / "experiment" / run_folder.REPORT).unlink()
    command = tmp_path / "command.py"  # the command line, with a tiny experiment
    command.write_text(
        TINY.format(tests=str(Path(__file__).parent), out="")
        + "import visavis\nsys.exit(visavis.main())\n"
    )
    image = tmp_path / "image.png"
    Image.fromarray(small.dataset().test_pixels[0]).save(image)
    notebook = nbformat.read(NOTEBOOKS / "colab.ipynb", as_version=4)
    for cell in notebook.cells:
        cell.source = cell.source.replace("-m visavis", str(command))
        cell.source = cell.source.replace('Path("../runs")', f"Path({str(tmp_path)!r})")
        cell.source = cell.source.replace('image = ""', f"image = {str(image)!r}")
    shown = execute(notebook)
    assert len(shown) >= 9  # the figures of the report, and both models' maps of the image
    printed = str([cell.get("outputs") for cell in notebook.cells])
    assert "cnn: accuracy" in printed and "vit: accuracy" in printed
    assert (tmp_path / "export.zip").exists()
