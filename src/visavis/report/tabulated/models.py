"""Tables of what the models are, how well they classify, and what they rely on."""

from collections.abc import Mapping
from typing import Any

from visavis.report.labels import bucket_names, the
from visavis.report.material import Material
from visavis.report.table import (
    Cell,
    Heading,
    Row,
    Table,
    count,
    duration,
    fixed,
    headings,
    of_both,
    of_models,
    points,
    score,
    share,
)
from visavis.report.text import numbers


def tables(material: Material) -> dict[str, Table]:
    """By name."""
    found = {
        "results": _results(material),
        "f1_per_class": _f1_per_class(material),
        "buckets": _buckets(material),
        "convergence": _convergence(material),
        "cues": _cues(material),
    }
    for role, model in material.models.items():
        if parts := model.training.get("modules"):
            rows = [
                Row(part["name"], [Cell(part["type"]), count(part["parameters"])], code=True)
                for part in parts
            ]
            head = headings("Part", "Type", "Parameters")
            found[f"{role}_parts"] = Table(f"Parts of {material.labels[role]}", head, rows)
    return found


def _results(material: Material) -> Table:
    """What stands at the top of the page."""
    comparison, labels = material.comparison, material.labels
    models = comparison["models"]
    rows = [
        Row(name, [*(show(models[role][key]) for role in labels), difference])
        for name, key, show, difference in (
            ("Test accuracy", "accuracy", share, points(comparison["accuracy_difference"])),
            (
                "Macro F1",
                "f1_macro",
                lambda of: score(of, 3),
                score(comparison["f1_macro_difference"], 3),
            ),
            ("Learnable parameters", "parameters", count, Cell("")),
            ("Training time", "train_seconds", duration, Cell("")),
        )
    ]
    difference = f"{labels['first']} minus {labels['second']}"
    return Table("Results", headings("", *of_models(labels), difference), rows)


def _f1_per_class(material: Material) -> Table:
    models = material.comparison["models"]
    rows = [
        Row(name, [fixed(models[role]["f1_per_class"][number], 3) for role in material.models])
        for number, name in enumerate(material.class_names)
    ]
    head = headings("F1 of the class", *of_models(material.labels))
    return Table("F1 of each class", head, rows)


def _buckets(material: Material) -> Table:
    labels = material.labels
    rows = []
    for key, name in bucket_names(labels).items():
        bucket = material.comparison["buckets"][key]
        similar = bucket["similarity"]
        cells = [
            count(bucket["n"]),
            *(share(bucket["confidence"][role]) for role in labels),
            count(similar["n"]),
            score(similar["agreement"]),
            score(similar["permutation_baseline"]),
        ]
        rows.append(Row(name, cells))
    second = f"{the(labels['second'], 'The')}’s"
    head = headings(
        "Test images",
        "n",
        Heading(f"{the(labels['first'], 'The')}’s confidence", "first"),
        Heading(second, "second", f"{second} confidence"),
        *("n sampled", "Agreement of their maps", "Permutation baseline"),
    )
    return Table("Groups of test images", head, rows)


def _convergence(material: Material) -> Table:
    models, facts = material.models, material.comparison["models"]
    rows = []
    for reached in material.comparison["convergence"]:
        cells = []
        for role, model in models.items():
            if not model.history:
                cells.append(Cell("–", span=2))
            elif reached[role]:
                epochs = reached[role]["epochs"]
                cells += [Cell(str(epochs), epochs), duration(reached[role]["seconds"])]
            else:
                cells.append(Cell("not reached", span=2))
        rows.append(Row(numbers.percent(reached["val_accuracy"], 0), cells))
    best = [
        Cell(_best(facts[role]) if model.history else "not trained here", span=2)
        for role, model in models.items()
    ]
    speeds = {role: round(facts[role]["inference_images_per_second"]) for role in models}
    throughput = [Cell(f"{numbers.count(of)} images/s", of, span=2) for of in speeds.values()]
    rows += [Row("Lowest validation loss", best), Row("Inference throughput", throughput)]
    columns = of_both(material.labels, "epochs", "training time")
    title = "Epochs and training time until the validation accuracy was first reached"
    return Table(title, headings("Validation accuracy", *columns), rows)


def _best(facts: Mapping[str, Any]) -> str:
    accuracy = numbers.percent(facts["best_val_accuracy"])
    return f"{accuracy}, epoch {facts['best_epoch']} of {facts['epochs']}"


def _cues(material: Material) -> Table:
    cues, labels = material.comparison["cues"], material.labels
    unchanged = [cell for role in labels for cell in (share(cues["unchanged"][role]), Cell(""))]
    rows = [Row("Original", [*unchanged, Cell(""), Cell("")])]
    for row in cues["rows"]:
        cells = [share(row[key][role]) for role in labels for key in ("accuracy", "kept")]
        cells += [points(row["difference"]), points(row["kept_difference"])]
        rows.append(Row(numbers.capital(row["label"]), cells))
    columns = of_both(labels, "accuracy", "share kept")
    more = ("Difference in accuracy", "Difference in share kept")
    return Table("Accuracy without one cue", headings("Images", *columns, *more), rows)
