import base64
import hashlib
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from fake_runs import interval, write_cross_model, write_experiment
from visavis import run_folder
from visavis.config import to_json
from visavis.errors import CheckpointError
from visavis.metrics import significance
from visavis.presets import preset
from visavis.report import explorer
from visavis.report import page as page_module
from visavis.report.material import Material
from visavis.report.page import figures, report
from visavis.report.recipe import command
from visavis.report.text import numbers
from visavis.stages.compare import compare

ITEMS = [
    f"q-{section}-{letter}"
    for section, letters in {
        "1-1": "ab",
        "1-2": "abc",
        "1-3": "abc",
        "2-1": "abc",
        "2-2": "abc",
        "2-3": "a",
    }.items()
    for letter in letters
]

PLANTED = {
    7.11: ("cnn", "grad_cam", "srg", {"q-1-3-c", "trust"}),
    7.22: ("cnn", "grad_cam", "contrast", {"q-1-3-c", "trust"}),
    7.33: ("vit", "integrated_gradients", "srg", {"q-2-2-b", "trust"}),
    7.44: ("vit", "integrated_gradients", "contrast", {"q-2-2-b", "trust"}),
    7.55: ("vit", "integrated_gradients", "class_sensitivity", {"q-2-2-b", "trust"}),
    7.66: ("cnn", "grad_cam", "class_sensitivity", {"q-1-3-c", "trust"}),
    7.77: ("vit", "rollout", "keep_top_20", {"trust"}),
    7.88: ("cnn", "occlusion", "srg_blur_fill", {"trust"}),
    7.99: ("cnn", "occlusion", "gini", {"q-1-3-c"}),
}
"""Scores of the experiment below that occur nowhere else, and the sections that hold them."""


class Page(HTMLParser):
    """What the tests ask of a page: its tags, and the text of paragraphs and tables."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self._depth = 0
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag in ("td", "li", "dd", "p"):
            self._depth += 1

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "li", "dd", "p"):
            self._depth -= 1

    def handle_data(self, data: str) -> None:
        if self._depth > 0:
            self.text.append(data)

    def values(self, attribute: str) -> list[str]:
        return [v for _, attributes in self.tags if (v := attributes.get(attribute))]


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("experiment")
    plan, notice = preset("quick", "cifar10"), "these are not the usual images"
    write_experiment(folder, sample=120, gallery=8, notice=notice, experiment=plan)
    for value, (model, method, score, _) in PLANTED.items():
        path = folder / model / run_folder.EXPLANATIONS
        values = run_folder.read_json(path)
        values["methods"][method]["scores"][score] = interval(value)
        run_folder.write_json(path, values)
    compare(folder)
    return folder


@pytest.fixture
def changed(experiment: Path, tmp_path: Path) -> Path:
    """A copy of the experiment, to be changed."""
    return shutil.copytree(experiment, tmp_path / "changed")


@pytest.fixture(scope="module")
def drawn(experiment: Path) -> dict[str, Figure]:
    return figures(experiment)


@pytest.fixture
def undrawn(drawn: dict[str, Figure], monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports without their charts, which take most of the time: for tests of the text alone."""
    monkeypatch.setattr(page_module, "charts", lambda material: drawn)
    monkeypatch.setattr(page_module, "svg", lambda figure, name="": "")


@pytest.fixture(scope="module")
def html(experiment: Path) -> str:
    return report(experiment).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def test_reports_which_epochs_used_random_crops(experiment: Path, html: str) -> None:
    optim = run_folder.read_json(experiment / "vit" / run_folder.CONFIG)["model"]["optim"]
    cropped = optim["epochs"] - optim["full_image_epochs"]
    assert optim["crop"] == 24 and cropped > 1
    assert f"The first {cropped} epochs trained on random crops of 24 × 24 pixels" in html


@pytest.mark.fault(29)
def test_is_one_small_file_that_asks_for_nothing(html: str, page: Page) -> None:
    assert len(html.encode()) < 5_000_000
    asked = [*page.values("src"), *page.values("href"), *page.values("xlink:href")]
    assert asked
    assert all(address.startswith(("data:", "#")) for address in asked)
    assert not re.search(r"@import|url\((?!#)", html)
    names = {tag for tag, _ in page.tags}
    assert not names & {"iframe", "object", "embed"}
    assert "default-src 'none'" in html


def test_its_one_script_is_named_by_its_hash_and_asks_for_nothing(html: str) -> None:
    found = re.findall(r"<script ([^>]*)>(.*?)</script>", html, re.DOTALL)
    assert [kind for kind, _ in found] == [
        'type="application/json" id="explorer-data"',
        'type="module"',
    ]
    script = found[1][1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in html
    assert not re.search(r"fetch\(|XMLHttpRequest|^import |eval\(|innerHTML", script, re.MULTILINE)


def test_the_explorer_holds_the_maps_and_prefers_images_that_a_model_gets_wrong(
    experiment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(explorer, "SHOWN", 60)
    material = Material.read(experiment)
    held = json.loads(explorer.explorer_parts(material)["data"])
    cnn = material.models["first"].heatmaps
    sampled = cnn["indices"][cnn["in_sample"]]
    wrong = [p for p in held["images"] if p["bucket"] != "both_correct"]
    assert 5 < len(wrong) < len(held["images"]) == 60 < len(sampled)
    missed = {
        int(index)
        for of in (model.heatmaps for model in material.models.values())
        for index in of["indices"][of["predicted"] != of["labels"]]
    }
    assert {p["index"] for p in wrong} == missed & set(sampled.tolist())
    for image in held["images"]:
        row = int(np.flatnonzero(cnn["indices"] == image["index"])[0])
        assert image["first"] == material.class_names[cnn["predicted"][row]]
        if levels := image["models"]["first"]["map"]:
            given = np.maximum(cnn["map_grad_cam"][row], 0)
            spread = (given - given.min()) / np.ptp(given)
            assert np.array(levels) / 255 == pytest.approx(spread, abs=0.003)


def test_covers_every_item_and_links_to_each(page: Page) -> None:
    ids = page.values("id")
    links = {address[1:] for address in page.values("href") if address.startswith("#")}
    for item in ITEMS:
        assert item in ids
        assert item in links
    assert "definition-srg" in links <= set(ids)
    assert len(ids) == len(set(ids))


def test_every_image_has_an_alternative_text(page: Page) -> None:
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(images) > 100
    assert all(attributes.get("alt") for attributes in images)
    charts = [attributes for tag, attributes in page.tags if tag == "svg"]
    assert len(charts) > 15
    assert all(attributes.get("aria-label") for attributes in charts)


def test_every_number_stands_in_the_json_files(experiment: Path, page: Page) -> None:
    """Each decimal number of a sentence or table is stored, or is what an interval could show."""
    stored = _numbers(
        [json.loads(path.read_text()) for path in experiment.rglob("*.json")]
        + [run_folder.read_history(experiment / name) for name in ("cnn", "vit")]
    )
    allowed = {
        text
        for number in stored
        for text in (
            *(numbers.decimal(number, digits) for digits in (2, 3)),
            *(numbers.decimal(100 * number, digits) for digits in (0, 1)),
            f"{number:.1f}",
            f"{number:,.0f}",
            str(number),
        )
    }
    allowed |= {text.lstrip("−") for text in allowed}
    printed_text = " ".join(page.text).replace(numbers.THIN, " ")
    printed_text = re.sub(
        r"\b[12]\.[1-3] [a-c]\b", "", printed_text
    )  # the assignment's question numbers
    printed = re.findall(r"(?<![\w.])\d[\d,]*\.\d+(?![\w.])|\d{1,3}(?:,\d{3})+", printed_text)
    assert len(printed) > 150
    assert [text for text in printed if text not in allowed and text != "45,000"] == []


def _numbers(value: Any) -> set[float]:
    if isinstance(value, dict):
        read_off = {significance.detectable(value)} if {"low", "high"} <= value.keys() else set()
        return _numbers(list(value.values())) | read_off
    if isinstance(value, list):
        found: set[float] = set().union(*map(_numbers, value))
        if value and all(type(item) is int for item in value):
            found.add(float(sum(value)))  # the size of a split is that of its classes
        return found
    return {float(value)} if isinstance(value, int | float) else set()


def test_the_headline_is_the_comparison(experiment: Path, html: str) -> None:
    models = run_folder.read_json(experiment / run_folder.COMPARISON)["models"]
    table = html[html.index('class="headline"') : html.index("</table>")]
    for name, facts in zip(("CNN", "ViT"), models.values(), strict=True):
        column = re.findall(rf'<td data-model="{name}"><b>(.*?)</b>', table)
        assert column[:4] == [
            numbers.percent(facts["accuracy"]["value"]),
            numbers.decimal(facts["f1_macro"]["value"], 3),
            numbers.count(facts["parameters"]),
            numbers.duration(facts["train_seconds"]),
        ]
    assert '<b class="first">CNN higher</b>' in table


def test_each_score_stands_where_it_belongs(html: str) -> None:
    """Values that occur nowhere else appear in the sections about them, and only there."""
    sections = re.split(r'<section class="(?:item|part)" id="(.*?)">', html)
    for value, (*_, expected) in PLANTED.items():
        shown = (value, value - 0.03, value + 0.03)
        if value == 7.77:
            text = "{:.1f}\u202f% ({:.1f} to {:.1f})".format(*(100 * x for x in shown))
        else:
            text = "{:.2f} ({:.2f} to {:.2f})".format(*shown)
        pairs = zip(sections[1::2], sections[2::2], strict=True)
        assert {item for item, section in pairs if text in section} == expected, value


@pytest.mark.usefixtures("undrawn")
def test_a_comparison_older_than_the_heatmaps_is_rejected(changed: Path) -> None:
    heatmaps = run_folder.read_arrays(changed / "vit" / run_folder.HEATMAPS)
    heatmaps["map_rollout"] += 0.1
    run_folder.write_arrays(changed / "vit" / run_folder.HEATMAPS, **heatmaps)
    for command_name, repeat in (("cross-model", write_cross_model), ("compare", compare)):
        match = rf"older than the heatmaps in vit/; first: visavis {command_name}"
        with pytest.raises(CheckpointError, match=match):
            report(changed)
        repeat(changed)
    report(changed)


@pytest.mark.usefixtures("undrawn")
def test_integrated_gradients_are_shown_with_their_baseline(changed: Path, html: str) -> None:
    caption = "Integrated gradients compare the image with the mean colour of the training images."
    assert html.count(caption) == 1  # of the ViT, whose default they are
    path = changed / "cnn" / run_folder.EXPLANATIONS
    default = {"default_method": "integrated_gradients"}
    run_folder.write_json(path, run_folder.read_json(path) | default)
    assert report(changed).read_text(encoding="utf-8").count(caption) == 2


@pytest.mark.usefixtures("undrawn")
def test_times_of_two_machines_are_not_set_against_each_other(changed: Path, html: str) -> None:
    assert "ran on the same machine" in html
    path = changed / "cnn" / run_folder.PROVENANCE
    run_folder.write_json(
        path, run_folder.read_json(path) | {"started_on": "another"}
    )  # and then moved
    other = report(changed).read_text(encoding="utf-8")
    assert "ran on the same machine" not in other
    assert "these times are not comparable" in other
    assert "is faster in this run" in html
    assert "is faster in this run" not in other
    back = {"started_on": "x86_64", "changed_when_resumed": ["threads 2, then 16"]}
    run_folder.write_json(path, run_folder.read_json(path) | back)
    assert "is faster in this run" not in report(changed).read_text(encoding="utf-8")


@pytest.mark.usefixtures("undrawn")
def test_what_changed_when_a_training_was_resumed_is_part_of_its_provenance(changed: Path) -> None:
    path = changed / "cnn" / run_folder.PROVENANCE
    lines = ["threads 1, then 2", "compiled False, then True"]
    run_folder.write_json(path, run_folder.read_json(path) | {"changed_when_resumed": lines})
    assert "<td>threads 1, then 2; compiled False, then True</td><td>–</td>" in re.sub(
        r"\s+(?=<)|(?<=>)\s+", "", report(changed).read_text(encoding="utf-8")
    )


@pytest.mark.usefixtures("undrawn")
def test_leaked_test_images_are_not_called_unseen(changed: Path, html: str) -> None:
    assert "that neither had seen" in html
    path = changed / "cnn" / run_folder.DATA
    leaked = {"images": 3, "other_label": 0}
    run_folder.write_json(path, run_folder.read_json(path) | {"leaked": leaked})
    assert "that neither had seen" not in report(changed).read_text(encoding="utf-8")


@pytest.mark.usefixtures("undrawn")
def test_a_model_at_chance_has_learned_nothing_and_its_maps_are_not_meaningful(
    changed: Path, html: str
) -> None:
    assert "not shown to have learned" not in html
    path = changed / run_folder.COMPARISON
    values = run_folder.read_json(path)
    values["models"]["second"]["accuracy"] = {"value": 0.11, "low": 0.09, "high": 0.13}
    run_folder.write_json(path, values)
    path = changed / "vit" / run_folder.EXPLANATIONS
    values = run_folder.read_json(path)
    scores = values["methods"][values["default_method"]]["scores"]
    scores["srg"] = {"value": 0.0001, "low": 0.00009, "high": 0.00011}
    run_folder.write_json(path, values)
    text = report(changed).read_text(encoding="utf-8")
    assert "The ViT is not shown to have learned anything: its test accuracy" in text
    said = re.sub(r"</?a[^>]*>", "", text)
    assert "changes the confidence of the ViT hardly more than masking the others" in said


@pytest.mark.usefixtures("undrawn")
def test_no_winner_where_the_interval_includes_none(tmp_path: Path) -> None:
    write_experiment(tmp_path, accuracy=(0.8, 0.8))
    compare(tmp_path)
    comparison = run_folder.read_json(tmp_path / run_folder.COMPARISON)
    assert numbers.side(comparison["accuracy_difference"]) == 0
    html = report(tmp_path).read_text(encoding="utf-8")
    assert "do not differ significantly in accuracy" in html
    assert "<b>no significant difference</b>" in html


def test_shows_what_the_models_rely_on(experiment: Path, html: str) -> None:
    """Both made-up models lose most without order; the first keeps more without colour."""
    section = re.split(r'<section class="part" id="cues">', html)[1].split("</section>")[0]
    strip = re.findall(r'alt="test image \d+ of \w+, ([^"]*)"', section)
    cues = run_folder.read_json(experiment / run_folder.COMPARISON)["cues"]
    assert strip == ["original", *(row["label"] for row in cues["rows"])]
    kept = {row["label"]: row["kept"] for row in cues["rows"]}
    for role in ("first", "second"):
        least = min(kept, key=lambda label: kept[label][role]["value"])
        assert least == "patch-shuffled (8×8)" and numbers.share(kept[least][role]) in section
    assert "The cells hold whole patches of the ViT" in section
    lead = "the CNN keeps a larger share of its accuracy than the ViT on high-pass and greyscale"
    assert lead in section and lead in html[: html.index('id="contents"')]
    for row in cues["rows"]:
        assert numbers.share(row["kept"]["second"]) in section


def test_class_agnostic_maps_are_tagged(html: str) -> None:
    heads = re.findall(r'<div class="head">(.*?)</div>', html)
    unaware = [head for head in heads if "attention, last block" in head or "rollout" in head]
    assert len(unaware) == 6
    assert all('<span class="tag">class-agnostic</span>' in head for head in unaware)
    aware = [head for head in heads if "gradient attention" in head or "Grad-CAM" in head]
    assert aware
    assert not any("class-agnostic" in head for head in aware)


@pytest.mark.usefixtures("undrawn")
def test_the_notice_stands_at_the_top(changed: Path, html: str) -> None:
    assert html.index("these are not the usual images") < html.index("<main>")
    for name in ("cnn", "vit"):
        path = changed / name / run_folder.DATA
        run_folder.write_json(path, run_folder.read_json(path) | {"notice": None})
    assert "Please note" not in report(changed).read_text(encoding="utf-8")


@pytest.mark.fault(28)
def test_names_from_outside_are_escaped(tmp_path: Path) -> None:
    canary = "<script>alert(1)</script>"
    names = (canary, '"><img src=x onerror=alert(1)>', *"cdefghij")
    write_experiment(tmp_path, class_names=names, description=canary, notice=canary)
    compare(tmp_path)
    html = report(tmp_path).read_text(encoding="utf-8")
    assert "<script>" not in html and html.count("<script") == 2
    assert "<img src=x" not in html
    assert not any("onerror" in attributes for _, attributes in Page(html).tags)


def test_two_models_that_are_never_correct_together(tmp_path: Path) -> None:
    write_experiment(tmp_path, accuracy=(1.0, 0.0))
    compare(tmp_path)
    html = report(tmp_path).read_text(encoding="utf-8")
    assert "No sampled test image is classified correctly and explained by both" in html
    assert "There are none." in html
    assert "not reached" in html


def test_maps_without_evidence_and_without_scores(tmp_path: Path) -> None:
    write_experiment(tmp_path)
    path = tmp_path / "cnn" / run_folder.HEATMAPS
    arrays = run_folder.read_arrays(path)
    arrays["map_grad_cam"] = np.zeros_like(arrays["map_grad_cam"])
    arrays["degenerate_grad_cam"] = np.ones_like(arrays["degenerate_grad_cam"])
    run_folder.write_arrays(path, **arrays)
    path = tmp_path / "cnn" / run_folder.EXPLANATIONS
    values = run_folder.read_json(path)
    for scored in (*values["methods"].values(), *values["baselines"].values()):
        scored["scores"] = dict.fromkeys(scored["scores"])
    for row in values["layer_sweep"]["rows"]:
        row["srg"] = None
    run_folder.write_json(path, values)
    write_cross_model(tmp_path)
    compare(tmp_path)
    html = report(tmp_path).read_text(encoding="utf-8")
    assert "Grad-CAM of the CNN for disc: degenerate" in html
    assert "its faithfulness is unknown" in html
    assert "Too few images" in html


def test_says_which_stage_is_missing(tmp_path: Path) -> None:
    write_experiment(tmp_path)
    with pytest.raises(CheckpointError, match=run_folder.COMPARISON):
        report(tmp_path)
    assert not (tmp_path / run_folder.REPORT).exists()


def test_the_same_files_give_the_same_report(experiment: Path, html: str) -> None:
    assert report(experiment).read_text(encoding="utf-8") == html


def test_figures_are_those_of_the_report(drawn: dict[str, Figure]) -> None:
    assert {"first_loss", "second_confusion", "wall_clock", "first_gallery", "side_by_side"} <= set(
        drawn
    )
    assert all(isinstance(figure, Figure) for figure in drawn.values())


PAIRS = {
    "two ViTs": {"names": ("vit", "timm/vit_tiny")},
    "one that was not trained here": {
        "names": ("resnet20", "vit"),
        "untrained": ["resnet20"],
        "grid": 7,
    },
    "two that were not": {"names": ("resnet20", "resnet56"), "untrained": ["resnet20", "resnet56"]},
}


@pytest.fixture(scope="module", params=PAIRS)
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Any], str]:
    folder = write_experiment(tmp_path_factory.mktemp("pair"), **PAIRS[request.param])
    compare(folder)
    return PAIRS[request.param], report(folder).read_text(encoding="utf-8")


def test_any_two_models_stand_in_their_places(pair: tuple[dict[str, Any], str]) -> None:
    facts, html = pair
    first, second = ("ViT" if name == "vit" else name for name in facts["names"])
    assert f"<h1>{first} and {second}, face to face</h1>" in html
    assert f'<th class="first">{first}</th><th class="second">{second}</th>' in html
    sections = dict(zip(*[iter(re.split(r'id="(q-[\d-]+[abc])">', html)[1:])] * 2, strict=True))
    assert list(sections) == ITEMS
    for item, of in sections.items():
        own, other = (first, second) if item.startswith("q-1-") else (second, first)
        if item[2:5] in ("1-2", "2-1"):
            assert own in of and other not in of


def test_a_model_that_is_not_there_is_not_named(pair: tuple[dict[str, Any], str]) -> None:
    facts, html = pair
    html = re.sub(r"base64,[^\"]*", "", html)  # letters of images may well be these
    assert "CNN" not in html
    if "vit" not in facts["names"]:
        assert "ViT" not in html and "ttention rollout multiplies" not in html
    assert ("Attention by block and head" in html) == any("vit" in n for n in facts["names"])


def test_nothing_stands_there_twice(pair: tuple[dict[str, Any], str]) -> None:
    _, html = pair
    ids = Page(html).values("id")
    assert len(ids) == len(set(ids))
    captions = re.findall(r"<figcaption>(.{150,}?)</figcaption>", html)
    assert len(captions) > 10
    assert len(captions) == len(set(captions))
    introductions = re.findall(r'<p class="intro">(.*?)</p>', html)
    assert len(introductions) == len(set(introductions))


def test_what_needs_a_history_is_left_out_without_one(pair: tuple[dict[str, Any], str]) -> None:
    facts, html = pair
    untrained = facts.get("untrained", [])
    assert html.count("was not trained here: it came with its weights") == len(untrained)
    assert html.count("Loss (cross-entropy) of") == 2 - len(untrained)
    assert ("Validation accuracy by training time" in html) == (len(untrained) < 2)
    assert ("Both trained from scratch" in html) == (not untrained)
    assert html.count("<td>Conv2d</td>") == len(untrained)


@pytest.mark.usefixtures("undrawn")
def test_what_is_not_offered_is_listed_with_the_reason(tmp_path: Path) -> None:
    write_experiment(tmp_path, names=("resnet20", "vit"))
    path = tmp_path / "resnet20" / run_folder.EXPLANATIONS
    values = run_folder.read_json(path) | {"layer": None, "layer_sweep": None}
    del values["methods"]["grad_cam"]
    values["default_method"] = "layer_cam"
    values["not_offered"] = {"grad_cam": "No layer of it keeps a grid.", "rollout": "No attention."}
    run_folder.write_json(path, values)
    write_cross_model(tmp_path)
    compare(tmp_path)
    html = report(tmp_path).read_text(encoding="utf-8")
    assert "Grad-CAM is not offered for resnet20. No layer of it keeps a grid." in html
    listed = "Grad-CAM (No layer of it keeps a grid), attention rollout (No attention)."
    assert f"Not offered for resnet20: {listed}" in html
    assert "LayerCAM: what resnet20 looks at" in html


def test_needs_no_torch() -> None:
    code = (
        "import sys, visavis.report, visavis.compare; "
        "print([m for m in ('torch', 'lightning', 'wandb', 'matplotlib.pyplot') "
        "if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_command_holds_what_differs_from_the_preset_and_no_path() -> None:
    settings = to_json(preset("quick", "cifar10"))
    settings["seed"] = 7
    settings["cnn"]["widths"] = [8, 16, 32]
    settings["cnn"]["optim"]["flip"] = False
    settings["vit"]["optim"]["batch_size"] = 123
    settings["data"] |= {"dir": "/home/someone/cifar", "source": "auto"}
    settings["tracking"]["project"] = "secret"
    made = {"preset": "quick", "experiment": settings, "data": {"source": "cifar10"}}
    assert command(made) == (
        "visavis run --preset quick --data.source cifar10 --seed 7 --data.dir DIR "
        "--cnn.widths 8 16 32 --cnn.optim.no-flip --vit.optim.batch-size 123"
    )
    settings = to_json(preset("quick", "folder", 64))
    made = {"preset": "quick", "experiment": settings, "data": {"source": "folder"}}
    assert (
        command(made) == "visavis run --preset quick --data.source folder --seed 0 --data.size 64"
    )
