"""Short definitions of what the pages show: each number links to one, which stands in the page."""

import functools
import re
import tomllib
from collections.abc import Sequence
from importlib import resources
from typing import NamedTuple

from markupsafe import Markup, escape


class Definition(NamedTuple):
    """One entry of definitions.toml."""

    term: str
    text: str
    section: int
    """Of docs/methods.md."""
    words: Sequence[str] = ()
    """What links to it wherever it stands."""
    heads: Sequence[str] = ()
    """What links to it only as the name of a column or a row."""


class Links:
    """Links words of one page to definitions, and knows afterwards which of these it needs.

    Args:
        visible: make links; otherwise, for Markdown, only note what is needed.
    """

    def __init__(self, *, visible: bool) -> None:
        self._visible = visible
        self._used: set[str] = set()

    def linked(self, text: str) -> str:
        """Text or HTML in which the first mention of each defined number links to it."""
        parts = re.split(r"(<a\b.*?</a>|<[^>]*>)", escape(text), flags=re.DOTALL)
        seen: set[str] = set()

        def link(match: re.Match[str]) -> str:
            key = _words()[match[0].lower()]
            if key in seen:
                return match[0]
            seen.add(key)
            return _anchor(key, match[0])

        parts[::2] = [_pattern().sub(link, part) for part in parts[::2]]
        self._used |= seen
        return Markup("".join(parts)) if self._visible else text

    def headed(self, text: str) -> str:
        """The name of a column or a row, such as "CNN: accuracy", with such a link."""
        before, colon, name = text.rpartition(": ")
        key = _heads().get(name.lower())
        if key is None:
            return self.linked(text)
        self._used.add(key)
        return escape(before + colon) + _anchor(key, escape(name)) if self._visible else text

    def needed(self) -> dict[str, Definition]:
        """The definitions that were linked so far, in the order of the file."""
        return {key: of for key, of in known().items() if key in self._used}


def _anchor(key: str, text: str) -> Markup:
    """A link around text that is HTML already."""
    return Markup('<a class="term" href="#definition-{}">{}</a>').format(key, Markup(text))


@functools.cache
def known() -> dict[str, Definition]:
    """All definitions by key."""
    file = resources.files("visavis.report") / "static" / "definitions.toml"
    return {key: Definition(**of) for key, of in tomllib.loads(file.read_text("utf-8")).items()}


@functools.cache
def _words() -> dict[str, str]:
    return {str(escape(word)).lower(): key for key, of in known().items() for word in of.words}


@functools.cache
def _heads() -> dict[str, str]:
    both = ((key, name) for key, of in known().items() for name in (*of.words, *of.heads))
    return {name.lower(): key for key, name in both}


@functools.cache
def _pattern() -> re.Pattern[str]:
    """The longest words first: "test accuracy" is one thing."""
    words = sorted(_words(), key=len, reverse=True)
    return re.compile(rf"(?<![\w-])(?:{'|'.join(map(re.escape, words))})(?![\w-])", re.IGNORECASE)
