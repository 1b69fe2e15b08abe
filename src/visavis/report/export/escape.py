"""Text as Markdown, as LaTeX and as the name of a file."""

import html
import re

from visavis.report.text.numbers import THIN

_LATEX = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    **{character: f"{{{character}}}" for character in "[]*"},  # else arguments of a line break
    THIN: r"\,",
    "\u00a0": "~",
    "−": "$-$",
    "×": r"$\times$",
    "±": r"$\pm$",
    "≥": r"$\geq$",
    "→": r"$\rightarrow$",
    "●": r"$\bullet$",
    "○": r"$\circ$",
    "✕": r"$\times$",
    "…": r"\ldots{}",
}


def latex(text: str) -> str:
    """Text for LaTeX, with any engine: the characters that only some fonts have as commands."""
    return "".join(_LATEX.get(character, character) for character in text)


def markdown(text: str) -> str:
    """Text for Markdown, in which none of its characters has a meaning."""
    text = " ".join(text.split("\n"))
    return re.sub(r"([\\`*_]|<(?=[\w/!?])|\](?=[(\[]))", r"\\\1", text)


def plain(text: str) -> str:
    """The text that `markdown` made Markdown of."""
    return re.sub(r"\\([^a-zA-Z0-9\s])", r"\1", html.unescape(text))


def slug(*words: str) -> str:
    """Words as a part of a file's name: lower-case letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", "-".join(words).lower()).strip("-")
