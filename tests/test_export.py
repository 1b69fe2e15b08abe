"""What an export holds: all that the report shows, numbers of the JSON files, embedded fonts."""

import csv
import dataclasses
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from PIL import Image

from defined import undefined
from fake_runs import write_experiment
from visavis import run_folder
from visavis.cli import main
from visavis.errors import ConfigError
from visavis.presets import preset
from visavis.report.citations import bibliography, known, works
from visavis.report.drawings import charts, image_grids
from visavis.report.export import MANIFEST, export, require_apart
from visavis.report.export.bundle import Bundle, Captioned
from visavis.report.export.escape import latex, markdown, plain
from visavis.report.export.print_size import HEIGHT, TWO_COLUMNS
from visavis.report.export.recorded import bundle
from visavis.report.export.tabular import as_csv, as_latex, as_markdown
from visavis.report.material import Material
from visavis.report.page import report
from visavis.report.table import Cell, Row, Table, headings
from visavis.report.tabulated import tables
from visavis.stages.compare import compare

ASSIGNMENT = (
    "1-1-a-class-examples",
    *(f"1-1-b-class-counts-{split}" for split in ("train", "validation", "test")),
    *("1-2-b-cnn-loss", "1-2-c-cnn-confusion", "1-3-a-cnn-layers", "1-3-b-figure-1"),
    *("2-1-b-vit-loss", "2-1-c-vit-confusion", "2-2-a-vit-attention-heads"),
    *("2-2-c-side-by-side", "2-3-a-f1-per-class"),
)
"""Figures that the assignment asks for, by its parts."""


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("experiment")
    write_experiment(folder, gallery=8, experiment=preset("quick", "cifar10"))
    compare(folder)
    return folder


@pytest.fixture(scope="module")
def drawn(experiment: Path) -> dict[str, Figure]:
    return charts(Material.read(experiment))


@pytest.fixture(scope="module")
def whole(experiment: Path, drawn: dict[str, Figure]) -> Bundle:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("visavis.report.page.charts", lambda material: drawn)
        return bundle(experiment)


@pytest.fixture(scope="module")
def few(whole: Bundle) -> Bundle:
    """With one figure and two tables, which are quickly written."""
    names = ("results", "trust-checks")
    return dataclasses.replace(
        whole,
        plates=[of for of in whole.plates if "2-3-a-overlap" in of.figures],
        tables={name: whole.tables[name] for name in names},
    )


@pytest.fixture
def written(few: Bundle, tmp_path: Path) -> Path:
    return export(few, tmp_path / "out")


def rows(table: Table) -> list[dict[str, str]]:
    return list(csv.DictReader(as_csv(table).splitlines()))


def test_every_figure_and_table_of_the_report_is_exported(
    experiment: Path, whole: Bundle, drawn: dict[str, Figure]
) -> None:
    material = Material.read(experiment)
    expected = {*drawn, *(name for name, of in image_grids(material).items() if of)}
    names = {name for plate in whole.plates for name in plate.figures}
    roles = {"first": "cnn", "second": "vit"}
    for name in expected:
        role, _, rest = name.partition("_")
        stem = f"{roles[role]}_{rest}" if role in roles else name
        assert any(re.search(rf"(^|-){stem.replace('_', '-')}(-|$)", of) for of in names), name
    assert len(names) == len([n for p in whole.plates for n in p.figures])
    assert len(whole.tables) == len(tables(material))


def test_figures_bear_the_names_of_the_assignments_parts(whole: Bundle) -> None:
    assert {*ASSIGNMENT} <= {name for plate in whole.plates for name in plate.figures}


def test_every_figure_fits_on_a_page_and_has_a_caption(whole: Bundle) -> None:
    for plate in whole.plates:
        assert plate.caption[0].isupper() and plate.caption.endswith(".")
        assert not re.search(r"[<>&\\]|\*\*", plate.caption)
        for figure in plate.figures.values():
            width, height = figure.get_size_inches()
            assert 1 < width <= TWO_COLUMNS + 0.01 and height <= HEIGHT + 0.01
            assert all(text.get_fontsize() >= 5.9 for text in figure.findobj(_is_text))


def _is_text(artist: Any) -> bool:
    return hasattr(artist, "get_fontsize") and bool(artist.get_text())


def test_exported_numbers_are_those_of_the_json_files(experiment: Path, whole: Bundle) -> None:
    models = run_folder.read_json(experiment / run_folder.COMPARISON)["models"]
    results = {row[""]: row for row in rows(whole.tables["results"].table)}
    for label, role in (("CNN", "first"), ("ViT", "second")):
        accuracy = models[role]["accuracy"]
        assert float(results["Test accuracy"][label]) == accuracy["value"]
        assert float(results["Test accuracy"][f"{label} low"]) == accuracy["low"]
        assert float(results["Test accuracy"][f"{label} high"]) == accuracy["high"]
        assert int(results["Learnable parameters"][label]) == models[role]["parameters"]
        f1 = [float(row[label]) for row in rows(whole.tables["2-3-a-f1-per-class"].table)]
        assert f1 == models[role]["f1_per_class"]
    scored = {row[""]: row for row in rows(whole.tables["trust-faithfulness"].table)}
    for name, label in (("cnn", "CNN"), ("vit", "ViT")):
        methods = run_folder.read_json(experiment / name / run_folder.EXPLANATIONS)["methods"]
        for method in methods.values():
            row, srg = scored[f"{label} {method['label']}"], method["scores"]["srg"]
            assert [float(row[f"SRG{end}"]) for end in ("", " low", " high")] == [*srg.values()]


def test_every_number_of_a_table_links_to_its_definition(experiment: Path) -> None:
    facts = {"provenance", "settings"}  # not measured
    found = tables(Material.read(experiment))
    assert not undefined({name: of for name, of in found.items() if name not in facts})


def test_columns_of_csv_have_names_of_their_own(whole: Bundle) -> None:
    for name, (table, _) in whole.tables.items():
        head = next(csv.reader(as_csv(table).splitlines()))
        assert len(head) == len(set(head)), name


def test_every_number_of_the_markdown_stands_in_the_page(
    whole: Bundle, experiment: Path, drawn: dict[str, Figure], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("visavis.report.page.charts", lambda material: drawn)
    monkeypatch.setattr("visavis.report.page.svg", lambda figure, name="": "")
    page = report(experiment).read_text(encoding="utf-8")
    visible = re.sub(r"<(script|style).*?</\1>", "", page, flags=re.DOTALL)
    shown = set(re.findall(r"\d+\.\d+", re.sub(r"<[^>]*>", " ", visible)))
    text = whole.markdown[: whole.markdown.index("## References")]
    text = re.sub(r"!\[.*?\]\(.*?\)|\(\d\.\d [abc]\)", "", text)
    found = re.findall(r"\d+\.\d+", text)
    assert len(found) > 300
    assert set(found) <= shown


def test_the_markdown_shows_every_figure_and_holds_no_html(whole: Bundle) -> None:
    images = re.findall(r"!\[[^\]]+\]\(figures/([\w-]+)\.png\)", whole.markdown)
    assert images == [name for plate in whole.plates for name in plate.figures]
    assert not re.search(r"</?[a-z]+[ >]|&[a-z#0-9]+;|\n{3}", whole.markdown)
    lines = [line for line in whole.markdown.splitlines() if line.startswith("#")]
    assert "### How did the CNN’s training converge? (1.2 b)" in lines
    assert lines.count("## References") == 1


@pytest.mark.fault(28)
def test_names_from_outside_mean_nothing_in_markdown(
    tmp_path: Path, drawn: dict[str, Figure], monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = "visavis.report.export.recorded"  # figures take most of the time
    monkeypatch.setattr("visavis.report.page.charts", lambda material: drawn)
    monkeypatch.setattr(f"{recorded}.image_figure", lambda groups: Figure())
    monkeypatch.setattr(f"{recorded}.to_print_size", lambda figure, **_: figure)
    names = ("<script>alert(1)</script>", "[a](b)", "*bold*_", "a|b", "50 % & more", *"fghij")
    write_experiment(tmp_path, class_names=names, description="<b>mine</b>")
    compare(tmp_path)
    made = bundle(tmp_path)
    assert "<script>" not in re.sub(r"\\<", "", made.markdown)
    assert r"\[a\](b)" in made.markdown or r"[a\](b)" in made.markdown
    cells = [line for line in made.markdown.splitlines() if line.startswith(r"| a\|b")]
    assert cells and all(len(re.findall(r"(?<!\\)\|", line)) == 4 for line in cells)
    assert "*bold*_" in as_csv(made.tables["2-3-a-f1-per-class"].table)
    assert r"50 \% \& more" in as_latex(made.tables["2-3-a-f1-per-class"].table, "f1")
    assert not any("\\" in plate.caption for plate in made.plates)


@pytest.mark.parametrize("text", ["a_b *c* `d`", "<b> [x](y) 1 < 2", "-1.5 (−2.0 to 1.0) [0 to 1]"])
def test_text_comes_back_from_markdown(text: str) -> None:
    assert plain(markdown(text)) == text


def test_latex_has_what_only_some_fonts_have_as_commands() -> None:
    made = latex("−0.42 ± 0.1 ● ○ ✕ 50\u202f% a_b [x] *")
    assert made.isascii()
    assert r"50\,\% a\_b {[}x{]} {*}" in made


def test_latex_tables_are_booktabs_with_caption_and_label() -> None:
    table = Table("Few", headings("", "a", "b"), [Row("x", [Cell("1 (0 to 2)", span=2)])])
    made = as_latex(table, "few", "A note.")
    for part in (r"\toprule", r"\midrule", r"\bottomrule", r"\caption{Few. A note.}"):
        assert made.count(part) == 1
    assert r"\label{tab:few}" in made and r"x & \multicolumn{2}{r}{1 (0 to 2)} \\" in made
    long = dataclasses.replace(table, rows=table.rows * 50)
    assert r"\begin{longtable}" in as_latex(long, "long")
    assert as_markdown(table).splitlines()[1] == "| --- | ---: | ---: |"


def test_a_check_is_exported_with_its_outcome(whole: Bundle) -> None:
    card = {row[""]: row for row in rows(whole.tables["trust-checks"].table)}
    assert card["CNN Grad-CAM (default)"]["Beats a blob at a random place"] == "passed: +0.20"
    assert card["ViT Attention rollout"]["Is about its class"] == "not applicable: class-agnostic"


def test_files_are_of_three_formats_with_embedded_fonts(written: Path) -> None:
    figure = written / "figures" / "2-3-a-overlap"
    pdf = figure.with_suffix(".pdf").read_bytes()
    assert b"/Type3" not in pdf and b"/Type 3" not in pdf
    assert pdf.count(b"/Type /FontDescriptor") == pdf.count(b"/FontFile2") > 0
    svg = figure.with_suffix(".svg").read_text(encoding="utf-8")
    assert "<text" not in svg and "font-family" not in svg
    with Image.open(figure.with_suffix(".png")) as png:
        assert round(png.info["dpi"][0]) == 300
    assert figure.with_suffix(".txt").read_text(encoding="utf-8").endswith(".\n")
    assert {path.suffix for path in (written / "tables").iterdir()} == {".csv", ".tex", ".md"}


@pytest.mark.fault(34)
def test_no_secret_of_the_environment_is_exported(
    few: Bundle, tmp_path: Path, secrets_in: Callable[[Path], list[Path]]
) -> None:
    assert not secrets_in(export(few, tmp_path / "out").parent)


def test_the_same_experiment_gives_the_same_files(few: Bundle, written: Path) -> None:
    before = {path: path.read_bytes() for path in written.rglob("*") if path.is_file()}
    export(few, written)
    assert {path: path.read_bytes() for path in written.rglob("*") if path.is_file()} == before


def test_what_was_edited_is_not_overwritten(few: Bundle, written: Path) -> None:
    (written / "notes.md").write_text("mine")
    export(few, written)  # a file of one's own beside them does not matter
    (written / "report.md").write_text("my own words")
    with pytest.raises(ConfigError, match=r"report\.md was edited since the last export"):
        export(few, written)
    assert (written / "report.md").read_text() == "my own words"
    (written / "report.md").unlink()
    fewer = dataclasses.replace(few, tables={})
    export(fewer, written)
    assert not list((written / "tables").iterdir())
    assert (written / "notes.md").read_text() == "mine"


def test_an_export_that_was_stopped_goes_on(few: Bundle, written: Path) -> None:
    other = dataclasses.replace(few, markdown="another")
    writes = iter(range(3))

    def stop(path: Path, content: bytes) -> None:
        if next(writes, None) is None:
            raise KeyboardInterrupt
        path.write_bytes(content)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("visavis.report.export.write_bytes", stop)
        with pytest.raises(KeyboardInterrupt):
            export(other, written)
    export(other, written)
    assert (written / "report.md").read_text() == "another"


def test_foreign_files_and_the_experiments_own_folders_are_refused(
    few: Bundle, experiment: Path, tmp_path: Path
) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(ConfigError, match="holds files that visavis did not export"):
        export(few, tmp_path)
    (tmp_path / MANIFEST).write_text("[]")
    with pytest.raises(ConfigError, match="is not what visavis wrote"):
        export(few, tmp_path)
    for folder in (experiment, experiment / "cnn"):
        with pytest.raises(ConfigError, match=r"is a folder of .* itself"):
            require_apart(folder, experiment)
    require_apart(experiment / "export", experiment)


def keys(experiment: Path) -> set[str]:
    return set(works(experiment))


def test_references_are_the_works_that_the_report_uses(experiment: Path, tmp_path: Path) -> None:
    used = keys(experiment)
    methods = {"selvaraju2017", "chefer2021", "abnar2020", "sundararajan2017", "zeiler2014"}
    assert methods | {"bluecher2024", "adebayo2018", "arras2022", "dosovitskiy2021"} <= used
    assert not {"jiang2021", "smilkov2017", "lundberg2017", "krizhevsky2009"} & used
    other = write_experiment(
        tmp_path, names=("resnet20", "net"), untrained=("resnet20", "net"), source="cifar10"
    )
    for name in ("resnet20", "net"):
        path = other / name / run_folder.EXPLANATIONS
        nothing = {"mask_chance": None, "score_validation": None}
        run_folder.write_json(path, run_folder.read_json(path) | nothing)
    compare(other)
    used = keys(other)
    assert {"jiang2021", "smilkov2017", "krizhevsky2009"} <= used
    trained_here = {"loshchilov2019", "jordan2024muon", "jordan2024", "page2018"}
    of_shapes = {"arras2022", "castro2009", "zhang2018"}
    assert not (trained_here | of_shapes | {"dosovitskiy2021", "abnar2020"}) & used


def test_every_work_is_whole_and_has_its_entry() -> None:
    entries = bibliography(sorted(known()))
    assert re.findall(r"@\w+\{(\w+),", entries) == sorted(known())
    assert entries.count("{") == entries.count("}")
    assert not re.search(r"(?<!\\)%(?! )", entries)
    for key, work in known().items():
        assert work["authors"] and work["title"] and work["purpose"], key
        assert key == "visavis" or str(work["year"]) in key
        assert {"arxiv", "url", "venue"} & work.keys() or key == "visavis"


def test_the_commands(
    experiment: Path, few: Bundle, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    out = tmp_path / "out"
    for words, expected in (
        (["cite", str(experiment)], "@inproceedings{selvaraju2017,"),
        (["export", str(experiment), "--to", str(out)], str(out)),
    ):
        with monkeypatch.context() as patch:
            patch.setattr("visavis.report.export.recorded.bundle", lambda folder: few)
            patch.setattr(sys, "argv", ["visavis", *words])
            assert main() == 0
        assert expected in capsys.readouterr().out
    bib = (out / "references.bib").read_text(encoding="utf-8")
    assert set(re.findall(r"@\w+\{(\w+),", bib)) == keys(experiment)
    assert json.loads((out / MANIFEST).read_text())["files"]["references.bib"]
    monkeypatch.setattr(sys, "argv", ["visavis", "export", str(tmp_path), "--to", str(out)])
    assert main() == 4
    assert capsys.readouterr().err.count("\n") == 1


def test_a_class_examples_figure_shows_each_class_once(whole: Bundle) -> None:
    (figure,) = next(
        of.figures for of in whole.plates if "1-1-a-class-examples" in of.figures
    ).values()
    assert sum(len(axes.images) for axes in figure.axes) == 10


def test_an_empty_table_is_a_head() -> None:
    empty = Captioned(Table("None", headings("", "a"), []), "")
    assert as_csv(empty.table) == ",a\n"
    assert as_markdown(empty.table).count("\n") == 2
    assert "toprule" in as_latex(empty.table, "none")


def test_the_methods_name_the_source_of_every_work() -> None:
    methods = (Path(__file__).parents[1] / "docs" / "methods.md").read_text(encoding="utf-8")
    sources = " ".join(methods[methods.index("## 11. Sources") :].split())
    for key, work in known().items():
        surname = work["authors"][0].split(",")[0]
        pattern = rf"\b{surname}\b[^·]*\b{work.get('year')}\b"
        assert key == "visavis" or re.search(pattern, sources), key
