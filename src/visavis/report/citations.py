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

EVERY_REPORT = (
    "visavis",
    *("wilson1927", "efron1979", "davison1997", "hesterberg2015"),  # intervals
    *("mcnemar1947", "cohen1988", "holm1979"),  # tests
    *("geirhos2020", "naeini2015", "guo2017"),  # errors and confidence
    *("park2022", "naseer2021", "geirhos2019"),  # images without a cue
    *("bluecher2024", "petsiuk2018", "hesse2024"),  # faithfulness
    *("sixt2020", "adebayo2018", "alvarezmelis2018"),  # sanity checks
    *("hurley2009", "chalasani2020"),  # complexity
    *("spearman1904", "jiang2024", "boehle2021", "rao2022"),  # comparing maps
)
ON_A_MASK = ("arras2022", "zhang2018")
SCORE_VALIDATION = ("castro2009", "mitchell2022")
EVERY_STUDY = ("visavis", "efron1979", "davison1997", "hesterberg2015", "bluecher2024")
SCORES = {"idsds": "hesse2024", "relevance_mass": "arras2022"}
"""By the key of a score of the methods of a study."""
SOURCES = {"cifar10": ("krizhevsky2009",), "cifar100": ("krizhevsky2009",)}
METHODS = {
    "grad_cam": ("selvaraju2017",),
    "layer_cam": ("jiang2021",),
    "gradient_attention": ("chefer2021",),
    "attention": ("vaswani2017",),
    "rollout": ("abnar2020",),
    "integrated_gradients": ("sundararajan2017",),
    "smooth_grad": ("smilkov2017",),
    "gradient_shap": ("lundberg2017",),
    "occlusion": ("zeiler2014",),
}
"""By the name of an attribution method."""


def works(folder: Path) -> list[str]:
    """The keys of the works whose methods and metrics a report or a study uses, sorted.

    Models of libraries, and one's own, are not among them: what to cite for these only their
    authors know.

    Raises:
        CheckpointError: a file is missing or damaged.
    """
    of = _of_study(folder) if run_folder.is_study(folder) else _of_report(Material.read(folder))
    return sorted(of)


def _of_report(material: Material) -> set[str]:
    keys = {*EVERY_REPORT, *SOURCES.get(material.comparison["data"]["source"], ())}
    for model in material.models.values():
        explanations = model.explanations
        keys.update(*(METHODS.get(method, ()) for method in explanations["methods"]))
        keys.update(ON_A_MASK if explanations["mask_chance"] else ())
        keys.update(SCORE_VALIDATION if explanations.get("score_validation") else ())
        keys.update(_model(model))
    return keys


def _of_study(out: Path) -> set[str]:
    results = run_folder.read_json(out / run_folder.RESULTS)
    variants = results["variants"].values()
    keys = {*EVERY_STUDY, *SOURCES.get(results["data"]["source"], ())}
    for training in results["trainings"]:
        seed = run_folder.SEED.format(training["seed"])
        keys |= _model(ModelFolder(out / training["variant"] / seed))
    for name, method in chain.from_iterable(of["methods"].items() for of in variants):
        keys.update(METHODS.get(name, ()))
        keys |= {work for score, work in SCORES.items() if method["scores"][score]}
    for used, works_of in (
        (len(results["trainings"]) > 1, ("spearman1904", "geirhos2020")),
        (any(of["accuracy"]["both"] for of in variants), ("zou2008",)),
        (any(row["accuracy"]["both"] for row in results["differences"]), ("welch1947",)),
        (results["agreement"]["layout"], ("torgerson1952",)),
        (results["errors"]["with_agreement"], ("mantel1967",)),
        (results["decomposition"], ("brennan2001",)),
    ):
        keys.update(works_of if used else ())
    return keys


def _model(model: ModelFolder) -> set[str]:
    """Of a model and its training, if that happened here."""
    settings = model.config["model"]
    keys = {"dosovitskiy2021"} if settings["name"] == "vit" else set()
    if not model.history:
        return keys
    optim, keys = settings["optim"], keys | {"loshchilov2019"}
    if settings["name"] in OWN:
        keys |= {"page2018", "jordan2024"}  # the whitened first layer
    for used, key in (
        (settings["name"] in OWN and optim["muon_learning_rate"], "jordan2024muon"),
        (optim["flip"], "jordan2024"),
        (optim["cutout"], "devries2017"),
        (optim["cutmix"], "yun2019"),
    ):
        keys |= {key} if used else set()
    return keys


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
