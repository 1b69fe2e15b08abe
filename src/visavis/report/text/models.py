"""How the models did, alone (1.2 c, 2.1 c) and side by side (2.3)."""

from collections.abc import Sequence

import numpy as np

from visavis.metrics.significance import side
from visavis.report.labels import bucket_names, the
from visavis.report.text.numbers import (
    NONE_SHOWN,
    Values,
    compared,
    count,
    decimal,
    duration,
    p_value,
    percent,
    plural,
    points,
    power,
    score,
    share,
)
from visavis.run_folder import ROLES


def class_balance(data: Values) -> str:
    """How the images are spread over splits and classes."""
    parts = []
    for split, counts in data["counts"].items():
        low, high = min(counts), max(counts)
        each = count(low) if low == high else f"{count(low)} to {count(high)}"
        name = "training" if split == "train" else split
        parts.append(f"{count(sum(counts))} {name} images, {each} of each class")
    return f"{'; '.join(parts)}."


def training(label: str, facts: Values) -> str:
    """How long a model was trained, and which epoch was kept."""
    name = the(label, "The")
    if "epochs" not in facts:
        return (
            f"{name} was not trained here: it came with its weights, so nothing is known of its "
            "training time, its epochs or its convergence."
        )
    return (
        f"{name} was trained for {plural(facts['epochs'], 'epoch')}, which took "
        f"{duration(facts['train_seconds'])} ({count(round(facts['images_per_second']))} "
        f"images/s). Its validation loss was lowest after epoch {facts['best_epoch']}, at "
        f"{decimal(facts['best_val_loss'], 3)} with a validation accuracy of "
        f"{percent(facts['best_val_accuracy'])}: the weights of that epoch are tested and "
        "explained."
    )


def at_chance(comparison: Values) -> list[str]:
    """One sentence for each model that is not shown to have learned anything."""
    chance = comparison["cues"]["chance"]
    return [
        f"{the(comparison['labels'][role], 'The')} is not shown to have learned anything: its test "
        f"accuracy, {share(facts['accuracy'])}, is not significantly above the {percent(chance)} "
        "of always predicting the most frequent class, so its heatmaps may show nothing about "
        "these images."
        for role, facts in comparison["models"].items()
        if facts["accuracy"]["low"] <= chance
    ]


def test_result(label: str, n: int, facts: Values, class_names: Sequence[str]) -> str:
    """How a model did on the test images."""
    f1 = np.array(facts["f1_per_class"])
    best, worst = int(f1.argmax()), int(f1.argmin())
    classes = (
        f"It is best at {class_names[best]} (F1 {decimal(f1[best], 3)}) and weakest at "
        f"{class_names[worst]} (F1 {decimal(f1[worst], 3)})"
    )
    if f1[best] == f1[worst]:
        classes = f"It is equally good at each class (F1 {decimal(f1[best], 3)})"
    text = (
        f"{the(label, 'The')} classifies {share(facts['accuracy'])} of the {count(n)} test images "
        f"correctly; its macro F1 is {score(facts['f1_macro'], 3)}. {classes}"
    )
    mistakes = np.array(facts["confusion_matrix"])
    np.fill_diagonal(mistakes, 0)
    if mistakes.any():
        true, predicted = divmod(int(mistakes.argmax()), len(mistakes))
        text += (
            f"; no error is more frequent than {class_names[true]} predicted as "
            f"{class_names[predicted]}, in {count(int(mistakes[true, predicted]))} of the images"
        )
    return text + "."


def accuracy(comparison: Values) -> str:
    """Which model is more accurate."""
    difference, test = comparison["accuracy_difference"], comparison["mcnemar"]
    first, second = (comparison["labels"][role] for role in ROLES)
    a, b = (share(comparison["models"][role]["accuracy"]) for role in ROLES)
    lead = {
        1: f"{the(first, 'The')} is more accurate",
        -1: f"{the(second, 'The')} is more accurate",
    }
    return (
        f"{lead.get(side(difference), 'The models do not differ significantly in accuracy')}: "
        f"{first} {a}, {second} {b}, a difference "
        f"({first} minus {second}) of {points(difference)}; McNemar's test gives "
        f"{p_value(test['p_value'])}.{power(difference, points=True)} The difference in macro F1 "
        f"is {score(comparison['f1_macro_difference'], 3)}."
    )


def overlap(comparison: Values) -> str:
    """Whether the models fail on the same images."""
    n = {name: bucket["n"] for name, bucket in comparison["buckets"].items()}
    both_wrong = n["both_wrong_same"] + n["both_wrong_different"]
    first, second = (the(comparison["labels"][role]) for role in ROLES)
    text = (
        f"Of {count(comparison['test_n'])} test images, both models classify "
        f"{count(n['both_correct'])} correctly and {count(both_wrong)} incorrectly; only "
        f"{first} is correct on {count(n['only_first'])}, only {second} on "
        f"{count(n['only_second'])}."
    )
    if both_wrong:
        same = plural(n["both_wrong_same"], "image")
        text += f" Where both are wrong, they predict the same class on {same}."
    return text


def consistency(comparison: Values) -> str:
    """Whether the models err on the same images more often than their accuracies imply."""
    facts, same = comparison["error_consistency"], comparison["same_wrong_class"]
    kappa, highest = facts["kappa"], facts["highest"]
    if kappa is None or highest is None:
        text = "The models make too few errors to measure their error consistency."
    else:
        verdict = {
            1: "they err on the same images more often than chance",
            -1: "they err on the same images less often than chance",
        }.get(side(kappa), "not significantly different from chance")
        text = (
            f"Error consistency is {score(kappa)}, where 0 is chance and {decimal(highest)} the "
            f"maximum for two models of these accuracies: {verdict}.{power(kappa)}"
        )
    if same["share"] is None:
        return text
    often = {1: "more", -1: "less", 0: "not significantly more"}
    return (
        f"{text} On {share(same['share'])} of the {count(same['n'])} images that both "
        f"misclassify, they predict the same class, {often[side(same['share'], same['expected'])]} "
        f"often than independent errors would ({percent(same['expected'])})."
        f"{power(same['share'], same['expected'], points=True)}"
    )


def calibration(comparison: Values) -> str:
    """Whether each model's confidence matches its accuracy."""
    parts = []
    for role, facts in comparison["calibration"].items():
        own, scaled = facts["uncalibrated"], facts["temperature_scaled"]
        gap, accuracy = own["accuracy_minus_confidence"], comparison["models"][role]["accuracy"]
        lean = {1: "is underconfident on average", -1: "is overconfident on average"}.get(
            side(gap), "is not shown to be over- or underconfident"
        )
        name = the(comparison["labels"][role], "The")
        parts.append(
            f"{name} {lean}: its mean confidence is {percent(own['confidence'])} and "
            f"its accuracy {percent(accuracy['value'])}, a difference of {points(gap)}."
            f"{power(gap, points=True)} Its expected calibration error is "
            f"{score(own['error'], 3)}, and {score(scaled['error'], 3)} after temperature scaling "
            f"with T = {decimal(facts['temperature'])}, fitted on the validation images."
        )
    return " ".join(parts)


def buckets(comparison: Values) -> str:
    """Where the models disagree, do they also look at different places?"""
    found = comparison["buckets"]
    level = found["both_correct"]["similarity"]["above_chance"]
    if level is None:
        return (
            "Too few sampled images are classified correctly by both models to compare their maps."
        )
    parts = [
        f"Where both are correct, the agreement of their maps for the true class is {score(level)} "
        "above chance."
    ]
    differs = {1: "more than that", -1: "less than that", 0: NONE_SHOWN}
    for key, label in bucket_names(comparison["labels"]).items():
        above_chance = found[key]["similarity"]["above_chance"]
        if key != "both_correct" and above_chance is not None:
            parts.append(
                f"{label}: {score(above_chance)}, {differs[compared(above_chance, level)]}."
            )
    if len(parts) == 1:
        parts.append("The other groups have too few sampled images.")
    return " ".join(parts)


def confusions(comparison: Values, class_names: Sequence[str]) -> str:
    """The confusion in which the models differ most."""
    difference = np.array(comparison["confusion_difference"])
    np.fill_diagonal(difference, 0)
    if not difference.any():
        return "Both models make every confusion equally often."
    row, column = divmod(int(np.abs(difference).argmax()), len(difference))
    times = [
        f"{the(comparison['labels'][role])} "
        f"{plural(comparison['models'][role]['confusion_matrix'][row][column], 'time')}"
        for role in ROLES
    ]
    return (
        f"The models differ most in how often {class_names[row]} is predicted as "
        f"{class_names[column]}: {', '.join(times)}."
    )


def cost(comparison: Values) -> str:
    """Parameters and training time."""
    parts: list[str] = []
    for role, label in comparison["labels"].items():
        facts = comparison["models"][role]
        noun = "" if parts else " learnable parameters"
        trained = "was not trained here, so its training time and convergence are not known"
        if facts["epochs"] is not None:
            trained = (
                f"trained for {duration(facts['train_seconds'])} "
                f"({plural(facts['epochs'], 'epoch')}, "
                f"{count(round(facts['images_per_second']))} images/s)"
            )
        name = the(label) if parts else the(label, "The")
        parts.append(f"{name} has {count(facts['parameters'])}{noun} and {trained}")
    return f"{'; '.join(parts)}."


def convergence(comparison: Values, *, same_machine: bool = True) -> str | None:
    """How fast the models reach the highest threshold of validation accuracy that both reach.

    None if neither was trained here.
    """
    names = {
        role: the(label)
        for role, label in comparison["labels"].items()
        if comparison["models"][role]["epochs"] is not None
    }
    rows = comparison["convergence"]
    if not names:
        return None
    if not rows:
        return "No model that was trained here reaches the lowest threshold of validation accuracy."
    both, last = [row for row in rows if all(row[role] for role in names)], rows[-1]
    better, highest = next(names[role] for role in names if last[role]), last["val_accuracy"]
    if not both:
        return f"Only {better} reaches any of the accuracy thresholds, up to {percent(highest, 0)}."
    reached = both[-1]
    times = [
        f"{name} after {plural(reached[role]['epochs'], 'epoch')} and "
        f"{duration(reached[role]['seconds'])} of training"
        for role, name in names.items()
    ]
    accuracy = percent(reached["val_accuracy"], 0)
    if len(names) == 1:
        return f"A validation accuracy of {accuracy} is reached by {times[0]}."
    faster = min(names, key=lambda role: reached[role]["seconds"])
    verdict = f"{names[faster]} is faster in this run"
    if len({round(reached[role]["seconds"], 1) for role in names}) == 1:
        verdict = "they take equally long in this run"
    if not same_machine:
        verdict = "these times were not taken under the same conditions and are not comparable"
    text = f"Both models reach a validation accuracy of {accuracy}, {', '.join(times)}: {verdict}."
    return text if last is reached else f"{text} Only {better} reaches {percent(highest, 0)}."
