"""What a finished stage says in the terminal: short tables, from the stage's own files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from visavis import run_folder
from visavis.report.text.numbers import (
    MAPS,
    NAMES,
    THIN,
    count,
    duration,
    p_value,
    percent,
    points,
    score,
    share,
)


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
    return table(
        [
            ["parameters", count(facts["parameters"])],
            ["epochs", count(facts["epochs"])],
            ["best epoch", count(facts["best_epoch"])],
            ["validation accuracy there", percent(facts["best_val_accuracy"])],
            ["training time", duration(facts["train_seconds"])],
        ]
    )


def evaluated(folder: Path) -> str:
    """A tested model."""
    facts = run_folder.read_json(folder / run_folder.EVALUATION)
    rows = [
        ["test images", count(facts["n"])],
        ["accuracy", percent(facts["accuracy"], 2)],
        ["F1, mean of classes", percent(facts["f1_macro"], 2)],
    ]
    for name, f1 in zip(facts["class_names"], facts["f1_per_class"], strict=True):
        rows.append([f"F1 {name}", percent(f1)])
    return table(rows)


def explained(folder: Path) -> str:
    """An explained model: how far each method's maps beat a random order."""
    facts = run_folder.read_json(folder / run_folder.EXPLANATIONS)
    rows = [[f"on {count(facts['n'])} test images", "deletion", "insertion", "in the centre"]]
    for entry in (*facts["methods"].values(), *facts["baselines"].values()):
        scores: Mapping[str, Any] = entry["scores"]
        cells = (score(scores.get("deletion")), score(scores.get("insertion")))
        rows.append([entry["label"], *cells, share(scores.get("central_mass"))])
    chosen = f"\nGrad-CAM looks at {facts['layer']}" if facts.get("layer") else ""
    return (
        table(rows)
        + "\n(with 95 % intervals; 0: no better than random orders, 1: as good as the oracle)"
        + chosen
    )


def cross_evaluated(experiment: Path) -> str:
    """How well each map guides the removal of cells on each model."""
    facts = run_folder.read_json(experiment / run_folder.CROSS_MODEL)
    rows = [[f"deletion on {count(facts['n'])} test images", *(f"the {n}" for n in NAMES.values())]]
    rows += [
        [
            f"{NAMES[row['model']]}, {MAPS[row['method']]}",
            *(score(row["deletion"][n]) for n in NAMES),
        ]
        for row in facts["rankings"]
    ]
    return (
        table(rows)
        + "\n(with 95 % intervals; 0: no better than random orders, 1: as good as the oracle)"
    )


def compared(experiment: Path) -> str:
    """Both models side by side."""
    facts = run_folder.read_json(experiment / run_folder.COMPARISON)
    models: Mapping[str, Any] = facts["models"]

    def row(label: str, key: str, text: Any) -> list[str]:
        return [label, *(text(models[name][key]) for name in NAMES)]

    lines = table(
        [
            ["", *NAMES.values()],
            row("test accuracy (95 %)", "accuracy", share),
            row("test F1, mean of classes (95 %)", "f1_macro", share),
            row("parameters", "parameters", count),
            row("training time", "train_seconds", duration),
            row("epochs", "epochs", count),
        ]
    )
    difference, mcnemar = facts["accuracy_difference"], facts["mcnemar"]
    return (
        f"{lines}\naccuracy, CNN minus ViT: {points(difference)}, "
        f"McNemar {p_value(mcnemar['p_value'])}, on {count(facts['test_n'])} test images"
    ).replace(THIN, " ")


def images(facts: Mapping[str, Any]) -> str:
    """What `data.info` says."""
    counts: Mapping[str, list[int]] = facts["counts"]
    rows = [["", *counts]]
    rows += [
        [name, *(count(numbers[i]) for numbers in counts.values())]
        for i, name in enumerate(facts["class_names"])
    ]
    rows.append(["together", *(count(sum(numbers)) for numbers in counts.values())])
    mean, std = (" ".join(map(str, facts[f"channel_{key}"])) for key in ("mean", "std"))
    lines = [
        facts["description"],
        *([facts["notice"]] if facts["notice"] else []),
        table(rows),
        f"mean of red, green, blue: {mean}; standard deviation: {std}",
        f"fingerprint {facts['fingerprint']}",
    ]
    return "\n".join(lines)


def predicted(answers: Sequence[Mapping[str, Any]]) -> str:
    """What models see in images."""
    blocks = []
    for answer in answers:
        if "error" in answer:
            blocks.append(f"{answer['image']}\n  {answer['error']}")
            continue
        rows = [
            [f"  {NAMES[name]}"]
            + [f"{guess['class']} {percent(guess['confidence'])}" for guess in found["top"]]
            for name, found in answer["models"].items()
        ]
        overlays = [f"  {m['overlay']}" for m in answer["models"].values() if "overlay" in m]
        blocks.append("\n".join([answer["image"], table(rows), *overlays]))
    return "\n".join(blocks)


def benched(measured: Mapping[str, Any]) -> str:
    """What `bench` measured."""
    machine, models = measured["machine"], measured["models"]

    def row(label: str, key: str, text: Any) -> list[str]:
        return [label, *(text(models[name][key]) for name in NAMES)]

    def rate(value: float) -> str:
        return f"{value:,.0f}"

    rates = ", ".join(f"{rate(v)} in {kind}" for kind, v in machine["matrix_gflops"].items())
    lines = table(
        [
            ["", *NAMES.values()],
            row("training, images per second", "training_images_per_second", rate),
            row("GFLOP per image", "training_gflop_per_image", lambda v: f"{v:.2f}"),
            row("share of the matrix rate", "share_of_matrix_rate", percent),
            row("loader's share of a step", "loader_share", percent),
            row("answers per second", "inference_images_per_second", rate),
            row("explanations per second", "explanations_per_second", rate),
            row("compiled", "compiled", lambda v: "yes" if v else "no"),
        ]
    )
    return (
        f"{machine['device_name']}, {machine['cores']} cores, {machine['threads']} threads, "
        f"torch {machine['torch']}, {machine['precision']}\n"
        f"matrix product, GFLOP/s: {rates}\n{lines}"
    ).replace(THIN, " ")


def checked(checks: Sequence[Mapping[str, Any]]) -> str:
    """What `doctor` found; what is not in order comes with what to do."""
    width = max(len(check["name"]) for check in checks)
    lines = []
    for check in checks:
        lines.append(f"{check['status']:4}  {check['name']:{width}}  {check['found']}")
        if check["advice"]:
            lines.append(f"{'':{width + 8}}{check['advice']}")
    return "\n".join(lines)
