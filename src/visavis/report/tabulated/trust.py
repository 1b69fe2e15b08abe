"""Tables of how far the explanations, and their scores, can be trusted."""

from visavis.report.labels import SCORES
from visavis.report.material import Material
from visavis.report.table import OUTCOMES, Cell, Row, Table, count, fixed, headings, score
from visavis.report.tabulated.maps import methods
from visavis.report.text.trust import CHECKS, Check, scorecard

VALIDATED = ("srg", "deletion", "insertion", "idsds", "keep_top_20")


def tables(material: Material) -> dict[str, Table]:
    """By name."""
    found = {"checks": _checks(material), "randomised": _randomised(material)}
    if all(model.explanations.get("score_validation") for model in material.models.values()):
        found["score_validation"] = _score_validation(material)
    return found


def _checks(material: Material) -> Table:
    """The outcome of each check of each method, with the number that decided it."""
    cards = {
        role: scorecard(model.explanations, material.cross_model, role)
        for role, model in material.models.items()
    }
    rows = []
    for row, name, _ in methods(material):
        default = name == material.models[row.role].explanations["default_method"]
        cells = [_outcome(check) for check in cards[row.role][name].values()]
        rows.append(row._replace(cells=cells, tag="default" if default else ""))
    first = next(iter(cards["first"].values()))
    return Table("Checks of each method", headings("", *(CHECKS[key] for key in first)), rows)


def _outcome(check: Check) -> Cell:
    verdict, number = check
    passed, unclear, failed, without = OUTCOMES
    outcome = {1: passed, 0: unclear, -1: failed, None: without}[verdict]
    return Cell(number, outcome=outcome)


def _randomised(material: Material) -> Table:
    rows = []
    for row, _, method in methods(material):
        sensitivity = score(method["scores"]["class_sensitivity"])
        cells = [
            *(score(method["trivial_baselines"][key]) for key in ("centre", "edges", "mean")),
            score(method["randomised"]["agreement"]),
            score(method["randomised"]["permutation_baseline"]),
            sensitivity if method["class_specific"] else Cell("none, class-agnostic"),
            Cell(str(method["degenerate"]), method["degenerate"]),
        ]
        rows.append(row._replace(cells=cells))
    columns = (
        *("centre", "edges", "mean map", "its map with all parameters randomised"),
        *("permutation baseline", "Class sensitivity", "Degenerate"),
    )
    title = "Trivial baselines and randomised parameters"
    return Table(title, headings("Rank correlation with", *columns), rows)


def _score_validation(material: Material) -> Table:
    rows = []
    for role, model in material.models.items():
        for key in VALIDATED:
            found = model.explanations["score_validation"]["scores"][key]
            truths = ("clean_plate", "shapley", "mask")
            needed = found["images_needed"]
            cells = [
                *(fixed(found["correlation"][truth]) for truth in truths),
                score(found["blob"]),
                Cell("–") if needed is None else count(needed),
            ]
            rows.append(Row(SCORES[key], cells, role, material.labels[role]))
    columns = ("clean plate", "Shapley", "mask", "blob", "Images needed")
    return Table("Scores against the truth", headings("Score", *columns), rows)
