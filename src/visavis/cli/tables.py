"""Short tables for the terminal, built from the files that a stage wrote."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from visavis import run_folder
from visavis.report.labels import SCORES, named, the
from visavis.report.text.numbers import (
    THIN,
    count,
    decimal,
    duration,
    p_value,
    percent,
    points,
    score,
    share,
)
from visavis.report.text.study import FEW_TRAININGS

SCALE = "\n(with 95 % intervals; SRG: symmetric relevance gain, 0 for a map that knows nothing)"


def table(rows: Sequence[Sequence[str]]) -> str:
    """Columns aligned, the first to the left and the others to the right."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join(lines).replace(THIN, " ")


def trained(folder: Path) -> str:
    """A finished training."""
    facts = run_folder.read_json(folder / run_folder.TRAINING)
    rows = [["parameters", count(facts["parameters"])]]
    if "epochs" not in facts:
        return table(rows)
    rows += [
        ["epochs", count(facts["epochs"])],
        ["best epoch", count(facts["best_epoch"])],
        ["its validation accuracy", percent(facts["best_val_accuracy"])],
        ["training time", duration(facts["train_seconds"])],
    ]
    if not facts.get("learned", True):
        rows.append(["learned", "nothing: at chance"])
    return table(rows)


def evaluated(folder: Path) -> str:
    """A tested model."""
    facts = run_folder.read_json(folder / run_folder.EVALUATION)
    rows = [
        ["test images", count(facts["n"])],
        ["accuracy", percent(facts["accuracy"], 2)],
        ["macro F1", percent(facts["f1_macro"], 2)],
    ]
    for name, f1 in zip(facts["class_names"], facts["f1_per_class"], strict=True):
        rows.append([f"F1 {name}", percent(f1)])
    return table(rows)


def explained(folder: Path) -> str:
    """An explained model: how faithful each method's attribution maps are."""
    facts = run_folder.read_json(folder / run_folder.EXPLANATIONS)
    rows = [[f"on {count(facts['n'])} test images", "SRG", "contrast", "in the centre"]]
    for entry in (*facts["methods"].values(), *facts["baselines"].values()):
        scores: Mapping[str, Any] = entry["scores"]
        cells = (score(scores.get("srg")), score(scores.get("contrast")))
        rows.append([entry["label"], *cells, share(scores.get("central_mass"))])
    chosen = f"\nGrad-CAM layer: {facts['layer']}" if facts.get("layer") else ""
    return table(rows) + SCALE + chosen


def validated(facts: Mapping[str, Any]) -> str:
    """How each score follows the known truth."""
    truths = {"clean_plate": "clean plate", "shapley": "Shapley", "mask": "mask"}
    head = f"{len(facts['maps'])} maps, {facts['n']} images"
    rows = [[head, *truths.values(), "blob", "images needed"]]
    for key, of in facts["scores"].items():
        needed = of["images_needed"]
        rows.append(
            [
                SCORES[key],
                *(decimal(of["correlation"][truth]) for truth in truths),
                score(of["blob"]),
                "–" if needed is None else count(needed),
            ]
        )
    course = ", ".join(
        f"{of} {decimal(value)}" for of, value in facts["scores"]["srg"]["course"].items()
    )
    verdict = "SRG passed." if facts["passed"] else "; ".join(facts["failed_because"])
    return f"{table(rows)}\nSRG of a map that is spoilt: {course}\n{verdict}".replace(THIN, " ")


def cross_evaluated(experiment: Path) -> str:
    """Cross-testing: each model's attribution maps tested on both models."""
    facts = run_folder.read_json(experiment / run_folder.CROSS_MODEL)
    labels: Mapping[str, str] = facts["labels"]
    columns = [the(label) for label in labels.values()]
    rows = [[f"SRG on {count(facts['n'])} test images", *columns]]
    for row in facts["rankings"]:
        label = f"{labels[row['model']]}, {named(row['method'])}"
        rows.append([label, *(score(row["srg"][role]) for role in labels)])
    return table(rows) + SCALE


def compared(experiment: Path) -> str:
    """Both models side by side."""
    facts = run_folder.read_json(experiment / run_folder.COMPARISON)
    models: Mapping[str, Any] = facts["models"]
    labels: Mapping[str, str] = facts["labels"]

    def row(label: str, key: str, text: Any) -> list[str]:
        values = [models[role][key] for role in labels]
        return [label, *("–" if value is None else text(value) for value in values)]

    rows = [
        ["", *labels.values()],
        row("test accuracy (95 %)", "accuracy", share),
        row("test macro F1 (95 %)", "f1_macro", share),
        row("parameters", "parameters", count),
        row("training time", "train_seconds", duration),
        row("epochs", "epochs", count),
    ]
    difference = (
        f"accuracy, {' minus '.join(labels.values())}: {points(facts['accuracy_difference'])}, "
        f"McNemar {p_value(facts['mcnemar']['p_value'])}, on {count(facts['test_n'])} test images"
    )
    return f"{table(rows)}\n{difference}".replace(THIN, " ")


def studied(out: Path) -> str:
    """The variants of a study: the mean of their trainings, and how much these differ."""
    rows = [["", "seeds", "test accuracy", "test macro F1", "parameters", "training time"]]
    finished = []
    for name, entry in run_folder.read_json(out / run_folder.STUDY)["variants"].items():
        folders = [out / name / run_folder.SEED.format(seed) for seed in entry["seeds"]]
        models = [model for model in map(run_folder.ModelFolder, folders) if model.explained]
        cells = [name, f"{len(models)} of {len(folders)}"]
        if models:
            finished.append(len(models))
            accuracy, f1 = (
                _spread([model.evaluation[key] for model in models])
                for key in ("accuracy", "f1_macro")
            )
            seconds = [
                model.training["train_seconds"]
                for model in models
                if "train_seconds" in model.training  # not where weights were adopted
            ]
            time = duration(statistics.mean(seconds)) if seconds else "–"
            parameters = count(models[0].training["parameters"])
            rows.append([*cells, accuracy, f1, parameters, time])
        else:
            rows.append([*cells, *["–"] * 4])
    text = f"{table(rows)}\n(mean ± standard deviation between trainings)"
    few = FEW_TRAININGS.get(min(finished, default=0))
    return text.replace(THIN, " ") + (f"\n{few}" if few else "")


def _spread(values: Sequence[float]) -> str:
    mean = percent(statistics.mean(values))
    return f"{mean} ± {decimal(100 * statistics.stdev(values))}" if len(values) > 1 else mean


def images(facts: Mapping[str, Any]) -> str:
    """Class counts and channel statistics of a data set."""
    counts: Mapping[str, list[int]] = facts["counts"]
    rows = [["", *counts]]
    for name, *numbers in zip(facts["class_names"], *counts.values(), strict=True):
        rows.append([name, *map(count, numbers)])
    rows.append(["total", *(count(sum(numbers)) for numbers in counts.values())])
    mean, std = (" ".join(map(str, facts[f"channel_{key}"])) for key in ("mean", "std"))
    return (
        f"{facts['description']}, {facts['side']} x {facts['side']} pixels\n{table(rows)}\n"
        f"mean of red, green, blue: {mean}; standard deviation: {std}\n"
        f"fingerprint {facts['fingerprint']}"
    )


def predicted(predictions: Sequence[Mapping[str, Any]]) -> str:
    """The predictions of each model for each image."""
    blocks = []
    for prediction in predictions:
        if "error" in prediction:
            blocks.append(f"{prediction['image']}\n  {prediction['error']}")
            continue
        rows, overlays = [], []
        for name, found in prediction["models"].items():
            top = [f"{guess['class']} {percent(guess['confidence'])}" for guess in found["top"]]
            rows.append([f"  {found.get('label', name)}", *top])
            overlays += [f"  {found['overlay']}"] if "overlay" in found else []
        blocks.append("\n".join([prediction["image"], table(rows), *overlays]))
    return "\n".join(blocks)


def checked(checks: Sequence[Mapping[str, Any]]) -> str:
    """What `doctor` found, with advice where something is wrong."""
    width = max(len(check["name"]) for check in checks)
    lines = []
    for check in checks:
        lines.append(f"{check['status']:4}  {check['name']:{width}}  {check['found']}")
        if check["advice"]:
            lines.append(f"{'':{width + 8}}{check['advice']}")
    return "\n".join(lines)
