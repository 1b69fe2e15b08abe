"""The documentation site: `make docs` builds it with Sphinx, without a network."""

from importlib import metadata

project = "visavis"
author = "the visavis authors"
copyright = author
release = metadata.version("visavis")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = "visavis"

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
napoleon_google_docstring = True
