"""The works behind the methods and metrics of a report: those it uses, and no others."""

import functools
import re
import tomllib
from collections.abc import Iterable
from importlib import resources
from itertools import chain
from pathlib import Path
from typing import Any

from visavis import run_folder
from visavis.registry import OWN
from visavis.report.material import Material
from visavis.run_folder import ModelFolder


def works(folder: Path) -> list[str]:
    """The keys of the works whose methods and metrics a report or a study uses, sorted.

    Models of libraries, and one's own, are not among them: what to cite for these only their
    authors know.

    Raises:
        CheckpointError: a file is missing or damaged.
    """
    uses = _of_study(folder) if run_folder.is_study(folder) else _of_report(Material.read(folder))
    return sorted(key for key, work in known().items() if uses & {*work["used_by"]})


def _of_report(material: Material) -> set[str]:
    """What a report uses, in the words of `used_by` in works.toml."""
    uses = {"report", material.comparison["data"]["source"]}
    for model in material.models.values():
        explanations = model.explanations
        uses |= {*explanations["methods"], *_of_model(model)}
        uses |= {"relevance_mass", "pointing_hit"} if explanations["mask_chance"] else set()
        uses |= {"score_validation"} if explanations.get("score_validation") else set()
    return uses


def _of_study(out: Path) -> set[str]:
    """What the page of a study uses."""
    results = run_folder.read_json(out / run_folder.RESULTS)
    variants, trainings = results["variants"].values(), results["trainings"]
    uses = {"study", results["data"]["source"]}
    for training in trainings:
        seed = run_folder.SEED.format(training["seed"])
        uses |= _of_model(ModelFolder(out / training["variant"] / seed))
    for name, method in chain.from_iterable(of["methods"].items() for of in variants):
        uses |= {name, *(score for score, of in method["scores"].items() if of)}
    parts = {
        "pairs": len(trainings) > 1,
        "both": any(of["accuracy"]["both"] for of in variants),
        "differences": any(row["accuracy"]["both"] for row in results["differences"]),
        "layout": results["agreement"]["layout"],
        "mantel": results["errors"]["with_agreement"],
        "decomposition": results["decomposition"],
    }
    return uses | {part for part, there in parts.items() if there}


def _of_model(model: ModelFolder) -> set[str]:
    """What a model uses, and its training, if that happened here."""
    settings = model.config["model"]
    name = settings["name"]
    own = {name} & {*OWN}  # a registered model may be called as a method is
    if not model.history:
        return own
    optim = settings["optim"]
    uses = {*own, "trained", *(part for part in ("flip", "cutout", "cutmix") if optim[part])}
    if name in OWN:
        uses |= {"whitened", "muon"} if optim["muon_learning_rate"] else {"whitened"}
    return uses


def bibliography(keys: Iterable[str]) -> str:
    """BibTeX entries of the works with these keys; before each, what it is cited for."""
    return "\n".join(f"% {known()[key]['purpose']}\n{_entry(key)}" for key in keys)


def reference(key: str) -> str:
    """A work as one line of text."""
    work = known()[key]
    authors = [" ".join(reversed(author.split(", "))) for author in work["authors"]]
    names = ", ".join(authors[:3]) + (" et al." if len(authors) > 3 else "")
    parts = [names, str(work.get("year", "")), work["title"], work.get("venue", "")]
    parts += [f"arXiv {work['arxiv']}" if "arxiv" in work else work.get("url", "")]
    return ". ".join(part.rstrip(".") for part in parts if part) + "."


@functools.cache
def known() -> dict[str, Any]:
    """All works by key."""
    file = resources.files("visavis.report") / "static" / "works.toml"
    return tomllib.loads(file.read_text(encoding="utf-8"))


VENUES = {
    "article": "journal",
    "inproceedings": "booktitle",
    "book": "publisher",
    "techreport": "institution",
}
"""The field in which BibTeX wants the venue, by type of entry."""


def _entry(key: str) -> str:
    work = known()[key]
    kind = work["type"]
    fields = {
        "author": " and ".join(f"{{{of}}}" if ", " not in of else of for of in work["authors"]),
        "title": f"{{{work['title']}}}",  # in braces, keeps its capitals
        "year": work.get("year"),
        VENUES.get(kind, "howpublished"): work.get("venue"),
        **{name: work.get(name) for name in ("volume", "number", "pages", "url")},
        "eprint": work.get("arxiv"),
        "archiveprefix": "arXiv" if "arxiv" in work else None,
    }
    if "venue" not in work and "arxiv" in work:
        fields["howpublished"] = f"arXiv:{work['arxiv']}"
    kind = "misc" if kind == "software" else kind  # which not every style knows
    lines = [f"  {name} = {{{value}}}," for name, value in fields.items() if value is not None]
    return "\n".join(
        [f"@{kind}{{{key},", *(re.sub("[%&]", r"\\\g<0>", line) for line in lines), "}", ""]
    )
