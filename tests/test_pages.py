"""The pages in a real browser: what a visitor does, sees and hears."""

import os
import re
import shutil

import numpy as np
import pytest
from PIL import Image

import small
from sites import ask, larger, other_experiment, serving
from visavis import run_folder
from visavis.data.images import read_image
from visavis.serve import browse

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PROGRAM = next((path for name in NAMES if (path := shutil.which(name))), None)
REQUIRED = os.environ.get("VISAVIS_BROWSER") == "required"

pytestmark = pytest.mark.skipif(
    PROGRAM is None and not REQUIRED,
    reason="no Chromium here; install one (Debian: apt install chromium) to try the pages in it",
)


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    assert PROGRAM is not None, "VISAVIS_BROWSER=required, and there is no Chromium here"
    switches = ["--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(
            executable_path=PROGRAM, args=[*switches, "--disable-sync", "--no-sandbox"]
        )
        yield running
        running.close()


@pytest.fixture(scope="module")
def site(finished, tmp_path_factory):
    """Its first class and its folder are called what only an attacker would call them."""
    folder = tmp_path_factory.mktemp("site") / "<img src=x onerror=canary()>"
    shutil.copytree(finished, folder)
    for name in ("cnn", "vit"):
        data = run_folder.read_json(folder / name / run_folder.DATA)
        data["class_names"][0] = "<script>canary()</script>"
        run_folder.write_json(folder / name / run_folder.DATA, data)
    with pytest.MonkeyPatch.context() as patch, serving(folder) as running:
        patch.setattr(browse.data, "resolve", lambda _: small.dataset())
        ask(running, "/api/images")  # what is slow is done before a test waits for it
        yield running


def unexpected(said):
    """Chromium also reports each refused request, which a page may well get."""
    return said.type == "error" and not said.text.startswith("Failed to load resource")


@pytest.fixture
def page(browser, site):
    """A page that reports what it should not do: fail, complain, or ask another host."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    opened = context.new_page()
    wrong = []
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on("console", lambda said: wrong.append(said.text) if unexpected(said) else None)
    inside = (site.url, "data:", "blob:")
    opened.on(
        "request",
        lambda request: None if request.url.startswith(inside) else wrong.append(request.url),
    )
    opened.goto(site.url)
    opened.wait_for_selector("#second-panel .predictions li")
    settle(opened)
    yield opened
    context.close()
    assert wrong == []


def explore(page, site, query=""):
    page.goto(f"{site.url}explore{query}")
    page.wait_for_selector(".tile")
    found(page)


def found(page):
    """Until the images that were asked for are there."""
    page.wait_for_selector("#explorer-wall[aria-busy=false]")


def image(folder):
    path = folder / "image.png"
    noise = np.random.default_rng(3).integers(0, 256, (48, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    return path


def shown(page, role):
    """The answers on the page, as (class, percent)."""
    rows = page.locator(f"#{role}-panel .predictions li").all_inner_texts()
    return [tuple(part.strip() for part in row.split("\n") if part.strip())[:2] for row in rows]


def settle(page):
    """Until both models have answered what was last asked of them."""
    page.wait_for_selector("#live[aria-busy=false]")


def upload(page, path):
    page.set_input_files("#file", path)
    page.wait_for_selector(f"#seen[aria-label^='{path.name}']")
    settle(page)


def test_an_uploaded_image_gets_the_answers_of_the_command(page, site, tmp_path):
    path = image(tmp_path)
    upload(page, path)
    answer = ask(site, "/api/predict", path.read_bytes()).json["models"]
    for role in run_folder.ROLES:
        for (name, percent), guess in zip(shown(page, role), answer[role]["top"], strict=True):
            assert name == guess["class"]
            assert float(percent.removesuffix(" %")) == pytest.approx(
                100 * guess["confidence"], abs=0.51
            )
    seen = page.evaluate(
        "[...document.getElementById('seen').getContext('2d').getImageData(0, 0, 32, 32).data]"
    )
    assert (np.reshape(seen, (32, 32, 4))[..., :3] == read_image(path)).all()


def test_hiding_a_cell_moves_both_answers(page, site, tmp_path):
    path = image(tmp_path)
    upload(page, path)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    box = page.locator("#cells").bounding_box()
    side = box["width"] / 8
    page.mouse.move(box["x"] + 3.5 * side, box["y"] + 2.5 * side)
    page.mouse.down()
    page.mouse.move(box["x"] + 4.5 * side, box["y"] + 2.5 * side)
    page.mouse.up()
    settle(page)
    assert page.inner_text("#hidden-count") == "2 of 64 cells hidden"
    assert sum("hidden=19%2C20" in url or "hidden=19,20" in url for url in asked) >= 3
    answer = ask(site, "/api/predict?hidden=19,20", path.read_bytes()).json["models"]
    for role in run_folder.ROLES:
        guesses = answer[role]["top"]
        assert [name for name, _ in shown(page, role)] == [g["class"] for g in guesses]
    mean = ask(site, "/api/run").json["hidden_colour"]
    seen = page.evaluate(
        "[...document.getElementById('seen').getContext('2d').getImageData(13, 9, 1, 1).data]"
    )
    assert seen[:3] == mean
    page.click("#show-all")
    assert page.inner_text("#hidden-count") == ""


def test_any_class_method_block_and_head_can_be_asked_about(page):
    def said():
        settle(page)
        frame = page.locator("#second-panel .frame")
        return frame.inner_text() + frame.locator("canvas").get_attribute("aria-label")

    settle(page)
    page.locator("#second-panel").get_by_label("Target class").select_option("star")
    assert "star" in said()
    with page.expect_request(re.compile("method=attention")):
        page.locator("#second-panel").get_by_label("Method").select_option("attention")
    with page.expect_request(re.compile("layer=1&head=2|head=2.*layer=1")):
        page.locator("#second-panel").get_by_label(re.compile("^Layer")).select_option("1")
        page.locator("#second-panel").get_by_label("Head").select_option("2")
    assert "Attention, last block" in said()
    assert "Not class-specific" in page.inner_text("#second-panel .summary")


def test_a_model_without_attention_has_no_such_controls(browser, tmp_path, monkeypatch):
    monkeypatch.setattr(browse.data, "resolve", lambda _: larger(small.dataset()))
    with serving(other_experiment(tmp_path)) as other:
        page = browser.new_page()
        page.goto(other.url)
        page.wait_for_selector("#second-panel .predictions li")
        upload(page, image(tmp_path))
        assert "56 by 56 pixels" in page.get_attribute("#seen", "aria-label")
        assert page.locator("#cells i").count() == 49
        cnn = page.locator("#first-panel")
        assert cnn.locator("h2").inner_text().startswith("resnet20")
        assert not cnn.get_by_label("Head").is_visible()
        methods = cnn.get_by_label("Method").locator("option").all_inner_texts()
        assert "LayerCAM" in methods and not [name for name in methods if "ttention" in name]
        assert "attention rollout, because no attention was seen in it." in cnn.inner_text()
        assert "Not offered" not in page.inner_text("#second-panel")
        page.focus("#cells")
        page.keyboard.press(" ")
        page.wait_for_selector("#hidden-count:has-text('1 of 49')")
        settle(page)
        assert page.locator("#error").is_hidden()
        page.close()


def test_what_is_no_image_gets_a_sentence_and_the_image_before_stays(page, tmp_path):
    before = page.get_attribute("#seen", "aria-label")
    path = tmp_path / "<b>canary.png"
    path.write_bytes(b"not a image")
    page.set_input_files("#file", path)
    page.wait_for_selector("#error:not([hidden])")
    assert "is not an image in a supported format" in page.inner_text("#error")
    assert page.get_attribute("#seen", "aria-label") == before


@pytest.mark.fault(28)
def test_names_are_shown_as_they_are_and_never_run(page, site):
    page.evaluate("window.canary = () => { document.title = 'run' }")
    assert "<img src=x onerror=canary()>" in page.inner_text("#about")
    page.locator("#first-panel").get_by_label("Target class").select_option(
        "<script>canary()</script>"
    )
    settle(page)
    explore(page, site)
    assert page.locator("th", has_text="<script>").count() > 0
    assert page.title() != "run"


def test_filters_choose_and_a_deep_link_keeps_the_choice(page, site):
    explore(page, site)
    total = ask(site, "/api/images?bucket=both_wrong_different&limit=1").json["total"]
    page.select_option("[name=bucket]", "both_wrong_different")
    page.select_option("[name=sort]", "first_confidence")
    found(page)
    assert page.inner_text("#explorer-count") == f"{total} image{'' if total == 1 else 's'}"
    labels = page.locator(".tile").evaluate_all("tiles => tiles.map((tile) => tile.ariaLabel)")
    assert labels and all(label.count("wrong") == 2 for label in labels)
    page.locator(".tile").nth(min(2, total - 1)).click()
    title, link = page.inner_text("#explorer-title"), page.url
    assert "bucket=both_wrong_different" in link and "sort=first_confidence" in link
    again = page.context.new_page()
    again.goto(link)
    again.wait_for_selector(".tile[aria-selected=true]")
    assert again.inner_text("#explorer-title") == title
    assert again.inner_text("#explorer-count") == page.inner_text("#explorer-count")


def test_a_cell_of_a_confusion_matrix_shows_its_images(page, site):
    explore(page, site)
    button = (
        page.locator("#explorer-matrices > div")
        .nth(1)
        .locator("td button")
        .filter(has_text=re.compile("^[1-9]"))
    )
    counted = int(button.first.inner_text())
    button.first.click()
    found(page)
    assert page.inner_text("#explorer-count").split()[0] == str(counted)
    labels = page.locator(".tile").evaluate_all("tiles => tiles.map((tile) => tile.ariaLabel)")
    answer = page.input_value("[name=second]")
    assert answer and all(f"ViT predicts {answer}," in label for label in labels)


def test_a_link_to_a_image_far_down_shows_it(page, site):
    page.set_viewport_size({"width": 390, "height": 500})
    page.goto(f"{site.url}explore?image=57")
    page.wait_for_selector("#image-57[aria-selected=true]")
    assert page.evaluate("document.getElementById('explorer-wall').scrollTop") > 0
    page.set_viewport_size({"width": 1000, "height": 500})
    page.wait_for_selector("#image-57[aria-selected=true]")


def test_a_cell_of_the_difference_shows_the_images_that_either_took_so(page, site):
    explore(page, site)
    button = (
        page.locator("#explorer-matrices > div")
        .nth(2)
        .locator("td button")
        .filter(has_text=re.compile("[1-9]"))
    )
    true, said = button.first.get_attribute("data-true"), button.first.get_attribute("data-either")
    button.first.click()
    found(page)
    labels = page.locator(".tile").evaluate_all("tiles => tiles.map((tile) => tile.ariaLabel)")
    assert labels
    for label in labels:
        assert f", {true};" in label and f"predicts {said}," in label


def test_the_end_key_scrolls_the_last_image_into_view(page, site):
    explore(page, site)
    page.evaluate("document.getElementById('explorer-wall').style.maxHeight = '120px'")
    page.focus("#explorer-wall")
    page.keyboard.press("End")
    assert page.get_attribute(".tile:last-child", "aria-selected") == "true"
    wall = page.locator("#explorer-wall").bounding_box()
    last = page.locator(".tile:last-child").bounding_box()
    assert last["y"] + last["height"] <= wall["y"] + wall["height"] + 1


def test_everything_can_be_reached_by_keyboard(page, site):
    page.focus("#cells")
    for key in ("ArrowRight", "ArrowDown", " "):
        page.keyboard.press(key)
    page.wait_for_selector("#hidden-count:has-text('1 of')")
    settle(page)
    page.keyboard.press("ArrowLeft")
    assert page.inner_text("#status") == "row 5, column 4"
    reached = set()
    page.locator("body").evaluate("() => document.activeElement.blur()")
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.tagName"))
    assert {"file", "another", "show-all", "opacity", "cells", "SELECT", "SUMMARY"} <= reached
    explore(page, site)
    page.focus("#explorer-wall")
    first = page.inner_text("#explorer-title")
    page.keyboard.press("ArrowRight")
    assert page.inner_text("#explorer-title") != first
    held = page.get_attribute("#explorer-wall", "aria-activedescendant")
    assert page.get_attribute(f"#{held}", "aria-selected") == "true"
    table = page.locator("#explorer-matrices table").first
    assert table.locator("button[tabindex='0']").count() == 1
    table.locator("button[tabindex='0']").focus()
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.closest('tr').sectionRowIndex") == 1


@pytest.mark.parametrize("width", [390, 768, 1920])
def test_nothing_hangs_over_the_edge(page, site, width):
    page.set_viewport_size({"width": width, "height": 844})
    for path in ("", "explore"):
        page.goto(site.url + path)
        page.wait_for_selector(".tile" if path else "#second-panel .predictions li")
        assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_against_level_aa(page, site, scheme):
    from axe_playwright_python.sync_playwright import Axe

    page.emulate_media(color_scheme=scheme)
    rules = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}
    for path in ("", "explore"):
        page.goto(site.url + path)
        page.wait_for_selector(".tile" if path else "#second-panel .predictions li")
        page.wait_for_load_state("networkidle")
        found = Axe().run(page, options=rules).response["violations"]
        told = [(v["id"], [node["html"][:120] for node in v["nodes"][:3]]) for v in found]
        assert told == []


@pytest.mark.fault(29)
def test_the_report_holds_the_explorer_and_asks_for_nothing(browser, finished):
    wrong = []
    opened = browser.new_page()
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on("console", lambda said: wrong.append(said.text))
    opened.on("request", lambda request: wrong.append(request.url))
    address = (finished / run_folder.REPORT).as_uri()
    opened.goto(f"{address}#explore?sort=second_confidence")
    opened.wait_for_selector(".tile")
    assert opened.input_value("[name=sort]") == "second_confidence"
    shown = opened.locator(".tile").count()
    assert opened.inner_text("#explorer-count") == f"{shown} images"
    assert not opened.locator(".plain-list").is_visible()
    opened.select_option("[name=bucket]", "both_wrong_different")
    opened.locator(".tile").last.click()
    assert "highest" in opened.inner_text(
        "#explorer-description"
    ) or "evidence" in opened.inner_text("#explorer-description")
    assert "bucket=both_wrong_different" in opened.url
    opened.close()
    assert [said for said in wrong if not said.startswith(("data:", "blob:", address))] == []
    plain = browser.new_context(java_script_enabled=False).new_page()
    plain.goto(address)
    assert plain.locator(".plain-list img").count() == shown
    assert plain.locator(".plain-list img").first.is_visible()
    assert not plain.locator("#explorer").is_visible()
    plain.context.close()
