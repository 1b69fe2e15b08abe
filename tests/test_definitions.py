"""Definitions: words link to them, once in each text, and they name sections that exist."""

import re
from pathlib import Path

from markupsafe import Markup

from visavis.report.definitions import Links, known


def test_the_first_mention_of_each_number_links_to_its_definition() -> None:
    links = Links(visible=True)
    text = links.linked(
        Markup("<b>SRG</b> & the srg, <a href='#x'>contrast</a>; McNemar&#39;s test")
    )
    assert text == (
        '<b><a class="term" href="#definition-srg">SRG</a></b> & the srg, '
        "<a href='#x'>contrast</a>; "
        '<a class="term" href="#definition-mcnemar">McNemar&#39;s test</a>'
    )
    assert links.linked("a < b, rearranged") == "a &lt; b, rearranged"
    assert [*links.needed()] == ["mcnemar", "srg"]  # in the order of the file


def test_the_name_of_a_column_is_one_link() -> None:
    links = Links(visible=True)
    expected = 'CNN &amp; co: <a class="term" href="#definition-accuracy">accuracy</a>'
    assert links.headed("CNN & co: accuracy") == expected
    assert links.headed("CNN") == "CNN"
    assert links.linked("noise") == "noise"  # alone, it is no number
    assert 'href="#definition-robustness"' in links.headed("Noise")


def test_markdown_has_no_links_and_the_same_definitions() -> None:
    links = Links(visible=False)
    assert links.linked("SRG") == "SRG" and links.headed("Noise") == "Noise"
    assert [*links.needed()] == ["srg", "robustness"]


def test_every_definition_is_found_by_words_of_its_own_and_names_a_section() -> None:
    methods = (Path(__file__).parents[1] / "docs" / "methods.md").read_text(encoding="utf-8")
    sections = set(map(int, re.findall(r"^## (\d+)\.", methods, re.MULTILINE)))
    names = [name.lower() for of in known().values() for name in (*of.words, *of.heads)]
    assert len(names) == len(set(names))
    for key, of in known().items():
        assert of.section in sections and of.text.endswith(".") and (of.words or of.heads), key
