"""The documentation site: `make docs` builds it with Sphinx, without a network."""

import re
from importlib import metadata
from pathlib import Path

from visavis.report.definitions import known

DOCS = Path(__file__).parent

project = "visavis"
author = "the visavis authors"
copyright = author
release = metadata.version("visavis")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = "visavis"
html_extra_path = ["sample-report.html", "sample-study.html"]  # recipes/samples.sh makes them

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
napoleon_google_docstring = True


def setup(app):
    """Fill the page of definitions with those that the report shows."""
    app.connect("source-read", _add_definitions)


def _add_definitions(app, name, source):
    if name != "definitions":
        return
    methods = (DOCS / "methods.md").read_text(encoding="utf-8")
    sections = {int(n): title for n, title in re.findall(r"^## (\d+)\. (.*)", methods, re.M)}
    for of in known().values():
        title = sections[of.section]
        words = re.sub(r"[^\w ]", "", title.lower()).replace(" ", "-")
        link = f"[{title}](methods.md#{of.section}-{words})"
        source[0] += f"\n{of.term}\n: {of.text} {link}\n"
