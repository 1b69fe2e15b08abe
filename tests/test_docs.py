"""The documentation site: it builds, and no link in it is broken."""

import ast
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

from visavis.report.definitions import known

DOCS = Path(__file__).parents[1] / "docs"


def test_the_site_is_built_without_a_warning_and_with_samples(tmp_path):
    build = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html"]
    done = subprocess.run([*build, DOCS, tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    index = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert not re.search(r'(?:src|<link[^>]*href)="https?:', index)  # it loads nothing
    assert "register_model" in (tmp_path / "reference.html").read_text(encoding="utf-8")
    samples = (tmp_path / "samples.html").read_text(encoding="utf-8")
    for name in ("sample-report.html", "sample-study.html"):
        assert f'href="{name}"' in samples and (tmp_path / name).stat().st_size > 100_000
    definitions = (tmp_path / "definitions.html").read_text(encoding="utf-8")
    assert definitions.count('href="methods.html#') == len(known()) > 25


def test_what_recipes_import_of_the_package_is_there():
    """They take minutes to days, so a name that has moved would be noticed late."""
    found = 0
    for path in (DOCS.parent / "recipes").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("visavis"):
                module = importlib.import_module(node.module)
                for alias in node.names:
                    found += 1
                    there = hasattr(module, alias.name)
                    assert there or importlib.util.find_spec(f"{node.module}.{alias.name}"), path
    assert found > 50


def test_every_fault_has_tests_that_bear_its_number():
    rows = re.findall(r"^\| (\d+) \|(.*)\|$", (DOCS / "faults.md").read_text(), re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, 37))
    marks = {}
    for path in Path(__file__).parent.glob("test_*.py"):
        pattern = r"^@pytest\.mark\.fault\(([\d, ]+)\)\ndef (\w+)"
        for numbers, name in re.findall(pattern, path.read_text(), re.MULTILINE):
            marks.setdefault(name, set()).update(numbers.split(", "))
    for number, row in rows:
        named = re.findall(r"`(test_\w+)`", row)
        assert named, number
        assert not [name for name in named if number not in marks.get(name, ())], number
    assert {*map(str, range(1, 37))} == set().union(*marks.values())
