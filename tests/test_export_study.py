"""What an export of a study holds: all that its page shows, and the numbers of results.json."""

import csv
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from defined import undefined
from fake_runs import write_study
from visavis import run_folder
from visavis.cli import main
from visavis.report.export.bundle import Bundle
from visavis.report.export.print_size import HEIGHT, TWO_COLUMNS
from visavis.report.export.recorded import bundle
from visavis.report.export.tabular import as_csv
from visavis.report.figures.study import charts
from visavis.report.page import report
from visavis.report.tabulated.study import tables
from visavis.stages.summarise import summarise

FILES = (
    *("accuracy", "accuracy-f1-macro", "accuracy-learning", "agreement", "agreement-layout"),
    *("parts", "methods-cnn-srg", "methods-vit-srg", "errors-kappa", "errors"),
)
WORKS = {
    *("visavis", "efron1979", "davison1997", "hesterberg2015", "welch1947", "zou2008"),
    *("spearman1904", "geirhos2020", "torgerson1952", "brennan2001"),
    *("bluecher2024", "hesse2024", "arras2022"),
    *("selvaraju2017", "sundararajan2017", "zeiler2014"),
    *("vaswani2017", "abnar2020", "chefer2021", "dosovitskiy2021"),
    *("loshchilov2019", "page2018", "jordan2024", "jordan2024muon"),
}
"""Of two seeds of each model on shapes; four trainings are too few for Mantel's test."""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = write_study(tmp_path_factory.mktemp("study") / "out", seeds=2)
    summarise(out)
    return out


@pytest.fixture(scope="module")
def results(study: Path) -> dict[str, Any]:
    return run_folder.read_json(study / run_folder.RESULTS)


@pytest.fixture(scope="module")
def drawn(results: dict[str, Any]) -> dict[str, Figure]:
    return charts(results)


@pytest.fixture(scope="module")
def whole(study: Path, drawn: dict[str, Figure]) -> Bundle:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("visavis.report.page.study_figures.charts", lambda results: drawn)
        return bundle(study)


def rows(whole: Bundle, name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(as_csv(whole.tables[name].table).splitlines()))


def test_every_figure_and_table_of_the_page_is_exported(
    whole: Bundle, results: dict[str, Any]
) -> None:
    assert tuple(name for plate in whole.plates for name in plate.figures) == FILES
    assert len(whole.tables) == len(tables(results)) == 11
    for plate in whole.plates:
        assert plate.caption[0].isupper() and plate.caption.endswith(".")
        for figure in plate.figures.values():
            width, height = figure.get_size_inches()
            assert 1 < width <= TWO_COLUMNS + 0.01 and height <= HEIGHT + 0.01
    for name, (table, _) in whole.tables.items():
        head = next(csv.reader(as_csv(table).splitlines()))
        assert len(head) == len(set(head)), name


def test_every_number_of_a_table_links_to_its_definition(results: dict[str, Any]) -> None:
    assert not undefined(tables(results))


def test_exported_numbers_are_those_of_results_json(whole: Bundle, results: dict[str, Any]) -> None:
    for row, of in zip(rows(whole, "variants"), results["variants"].values(), strict=True):
        for name, key in (("Test accuracy", "accuracy"), ("Macro F1", "f1_macro")):
            ends = [float(row[f"{name}{end}"]) for end in ("", " low", " high")]
            assert ends == [of[key]["both"][end] for end in ("value", "low", "high")]
        assert float(row["Training time"]) == of["train_seconds"]
        assert float(row["Standard deviation"]) == of["accuracy"]["sd"]
    (found,) = rows(whole, "accuracy-differences")
    difference = results["differences"][0]["accuracy"]
    assert float(found["Difference"]) == difference["value"]
    assert float(found["For other seeds low"]) == difference["trainings"]["low"]
    for name, variant in results["variants"].items():
        methods = variant["methods"].values()
        for row, of in zip(rows(whole, f"methods-{name}-scores"), methods, strict=True):
            assert [float(each) for each in row["SRG of each training"].split()] == of["srg"][
                "values"
            ]
            contrast = of["scores"]["contrast"]
            assert float(row["Contrast"]) == contrast["value"]
            assert float(row["Contrast lowest"]) == contrast["lowest"] == min(contrast["values"])
    accuracies = [float(row["Test accuracy"]) for row in rows(whole, "trainings")]
    assert accuracies == [training["accuracy"] for training in results["trainings"]]


def test_the_markdown_says_what_the_page_says(
    whole: Bundle, study: Path, drawn: dict[str, Figure], monkeypatch: Any
) -> None:
    monkeypatch.setattr("visavis.report.page.study_figures.charts", lambda results: drawn)
    monkeypatch.setattr("visavis.report.page.svg", lambda figure, name="": "")
    page = report(study).read_text(encoding="utf-8")
    page = re.sub(r"<style.*?</style>", "", page, flags=re.DOTALL)
    shown = set(re.findall(r"\d+\.\d+", re.sub(r"<[^>]*>", " ", page)))
    text = whole.markdown[: whole.markdown.index("## References")]
    found = re.findall(r"\d+\.\d+", re.sub(r"!\[.*?\]\(.*?\)", "", text))
    assert len(found) > 100
    assert set(found) <= shown
    images = re.findall(r"!\[[^\]]+\]\(figures/([\w-]+)\.png\)", whole.markdown)
    assert tuple(images) == FILES
    assert not re.search(r"</?[a-z]+[ >]|&[a-z#0-9]+;|\n{3}|None", whole.markdown)


def test_references_are_the_works_that_the_study_uses(whole: Bundle) -> None:
    assert set(whole.works) == WORKS


def test_the_commands(study: Path, whole: Bundle, tmp_path: Path, monkeypatch: Any, capsys: Any):
    few = type(whole)(**{**vars(whole), "plates": whole.plates[:1]})
    monkeypatch.setattr("visavis.report.export.recorded.bundle", lambda folder: few)
    to = tmp_path / "out"
    for words, expected in ((["cite"], "@book{brennan2001,"), (["export", "--to", str(to)], "out")):
        monkeypatch.setattr(sys, "argv", ["visavis", *words, str(study)])
        assert main() == 0
        assert expected in capsys.readouterr().out
    assert (to / "figures" / "accuracy.pdf").exists()
    monkeypatch.setattr(
        sys, "argv", ["visavis", "export", "--to", str(study / "cnn" / "seed-0"), str(study)]
    )
    assert main() == 2
    assert "is a folder of" in capsys.readouterr().err
