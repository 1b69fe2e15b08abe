"""Tables of a study: its variants, the methods of each, and all trainings."""

from collections.abc import Callable
from typing import Any

from visavis.compare import conclusions
from visavis.report.labels import SCORES, named, the
from visavis.report.table import (
    Cell,
    Row,
    Table,
    count,
    duration,
    fixed,
    headings,
    plain,
    score,
    share,
)
from visavis.report.text import numbers, study
from visavis.report.text.numbers import Interval, Values, decimal

INTERVALS = {"images": "For other images", "trainings": "For other seeds", "both": "For both"}


def tables(results: Values) -> dict[str, Table]:
    """By name; that of one variant's begins with the name of the variant."""
    found = {
        "variants": _variants(results),
        "intervals": _intervals(results, "accuracy", "Test accuracy"),
        "f1_intervals": _intervals(results, "f1_macro", "Macro F1"),
        "trainings": _trainings(results),
    }
    if results["differences"]:
        title = "Differences in {}"
        found["differences"] = _differences(results, "accuracy", title.format("test accuracy"))
        found["f1_differences"] = _differences(results, "f1_macro", title.format("macro F1"))
    if results["agreement"]["groups"]:
        found["agreement"] = _agreement(results)
    for name, of in results["variants"].items():
        found[f"{name}_scores"] = _scores(of)
        found[f"{name}_conclusions"] = _conclusions(of)
    return found


def _variants(results: Values) -> Table:
    rows = []
    for of in results["variants"].values():
        tag = ", ".join(f"{key} = {value}" for key, value in of["varied"].items())
        accuracy, f1 = of["accuracy"], of["f1_macro"]
        cells = [
            count(len(accuracy["values"])),
            _mean(accuracy, share, numbers.percent),
            _known(accuracy["sd"], lambda sd: Cell(f"{decimal(100 * sd)} points", sd)),
            _mean(f1, lambda of: score(of, 3), lambda value: decimal(value, 3)),
            count(of["parameters"]),
            duration(of["train_seconds"]),
        ]
        rows.append(Row(of["label"], cells, tag=tag))
    columns = ("Test accuracy", "Standard deviation", "Macro F1", "Learnable parameters")
    return Table("Variants", headings("", "Trainings", *columns, "Training time"), rows)


def _mean(of: Values, show: Callable[[Interval], Cell], alone: Callable[[float], str]) -> Cell:
    """The mean over trainings, with the widest interval that there is."""
    wide = of["both"] or of["images"]
    return show(wide) if wide else Cell(alone(of["value"]), of["value"])


def _known(value: Any, show: Callable[[Any], Cell]) -> Cell:
    return Cell("–") if value is None else show(value)


def _range(interval: Interval, scale: int, digits: int) -> Cell:
    low, high = (decimal(scale * interval[end], digits) for end in ("low", "high"))
    return Cell(f"{low} to {high}", interval)


def _intervals(results: Values, key: str, title: str) -> Table:
    rows = []
    for variant in results["variants"].values():
        of = variant[key]
        cells = [fixed(of["value"], 4), _known(of["sd"], lambda sd: fixed(sd, 4))]
        cells += [_known(of[question], lambda of: _range(of, 1, 4)) for question in INTERVALS]
        rows.append(Row(variant["label"], cells))
    head = headings(title, "Mean", "Standard deviation", *INTERVALS.values())
    return Table(f"{title} with its intervals", head, rows)


def _differences(results: Values, key: str, title: str) -> Table:
    """Of accuracies in percentage points."""
    scale, digits = (100, 1) if key == "accuracy" else (1, 3)
    rows = []
    for row in results["differences"]:
        of = row[key]
        first, second = (results["variants"][name]["label"] for name in row["variants"])
        cells = [Cell(decimal(scale * of["value"], digits), of["value"])]
        cells += [
            _known(of[question], lambda of: _range(of, scale, digits)) for question in INTERVALS
        ]
        cells.append(Cell(f"{of['pairs_above']} of {of['pairs']}", of["pairs_above"]))
        rows.append(Row(f"{first} minus {second}", cells))
    head = headings("", "Difference", *INTERVALS.values(), "Pairs of trainings ahead")
    return Table(title, head, rows)


def _agreement(results: Values) -> Table:
    known = next(iter(results["variants"].values()))["methods"]
    labels = {name: of["label"] for name, of in results["variants"].items()}
    agreement = results["agreement"]
    rows = []
    for method, groups in [("default", agreement["groups"]), *agreement["by_method"].items()]:
        for group in groups:
            a, b = (labels[name] for name in group["variants"])
            cells = [
                Cell(method if method == "default" else named(method, known)),
                count(group["pairs"]),
                score(group["agreement"]),
                _known(group["lowest"], fixed),
                _known(group["highest"], fixed),
                _known(group["relative"], score),
            ]
            rows.append(Row(f"{a}, two trainings" if a == b else f"{a} and {b}", cells))
    columns = ("Agreement above chance", "Lowest pair", "Highest pair")
    head = headings("", "Method", "Pairs", *columns, "Relative to the noise ceiling")
    return Table("Agreement by each method", head, rows)


def _scores(of: Values) -> Table:
    """SRG in full; of the others, those that are known of some method."""
    methods, n = of["methods"].values(), len(of["accuracy"]["values"])
    known = [key for key in conclusions.SCORES if any(of["scores"][key] for of in methods)]
    rows = []
    for method in methods:
        srg = method["srg"]
        cells = [
            _known(srg, lambda srg: score(srg["both"]) if srg["both"] else fixed(srg["value"])),
            _known(srg, lambda srg: Cell(", ".join(map(decimal, srg["values"])), srg["values"])),
            *(_known(method["scores"][key], _over_trainings) for key in known),
            Cell(f"{method['best_in']} of {n}", method["best_in"]),
        ]
        rows.append(Row(method["label"], cells))
    columns = ("SRG", "SRG of each training", *(SCORES[key] for key in known))
    head = headings("", *columns, "Highest SRG in")
    return Table(f"Scores of the methods of {the(of['label'])}", head, rows)


def _over_trainings(of: Values) -> Cell:
    mean, lowest, highest = (decimal(of[key]) for key in ("value", "lowest", "highest"))
    more = f" ({lowest} to {highest})" if len(of["values"]) > 1 else ""
    return Cell(mean + more, {key: of[key] for key in ("value", "lowest", "highest")})


def _conclusions(of: Values) -> Table:
    rows = []
    for each in of["conclusions"]:
        claim = numbers.capital(study.sentence(each, of["methods"]))
        shown, holds = study.shown(each["sides"]), study.HOLDS[each["holds"]]
        rows.append(Row(claim, [Cell(shown), Cell(holds)]))
    head = headings("Conclusion", "In each training", "Holds")
    return Table(f"Conclusions about the methods of {the(of['label'])}", head, rows)


def _trainings(results: Values) -> Table:
    rows = []
    for training in results["trainings"]:
        variant, method = results["variants"][training["variant"]], training["default_method"]
        at_layer = training["layer"] and method == "grad_cam"
        layer = f" at {training['layer']}" if at_layer else ""
        accuracy, f1 = training["accuracy"], training["f1_macro"]
        cells = [
            plain(training["seed"]),
            Cell(numbers.percent(accuracy), accuracy),
            fixed(f1, 3),
            plain(training["epochs"]),
            duration(training["train_seconds"]),
            Cell(numbers.capital(named(method, variant["methods"])) + layer),
            Cell(f"{training['device']}, {training['precision']}"),
        ]
        rows.append(Row(variant["label"], cells))
    columns = ("Seed", "Test accuracy", "Macro F1", "Epochs", "Training time", "Default method")
    return Table("All trainings", headings("", *columns, "Machine, precision"), rows)
