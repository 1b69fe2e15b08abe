"""What a study shows, in sentences that follow the intervals."""

from collections.abc import Sequence

from visavis.metrics.significance import side
from visavis.report.labels import named, the
from visavis.report.text.numbers import (
    Values,
    capital,
    count,
    decimal,
    listed,
    p_value,
    percent,
    plural,
    points,
    score,
)

FEW_TRAININGS = {
    1: "One training of a variant cannot show how much of a result is chance; train at least 3 "
    "seeds.",
    2: "Two trainings say little: the true standard deviation may be 0.4 to 32 times theirs "
    "(95 % interval); train at least 3 seeds.",
}
"""By the number of trainings. 1 / sqrt(q) for the 97.5 % and 2.5 % quantiles q of chi-square with
one degree of freedom, if accuracies are normally distributed."""

MANY_VARIANTS = 4

HOLDS = {
    "always": "in every training",
    "never": "the opposite in every training",
    "flips": "flips between trainings",
    "sometimes": "significant in some trainings",
    "sometimes not": "the opposite significant in some trainings",
    "open": "not significant in any",
}

MEANS = (
    "Means over trainings, with 95 % intervals for other seeds and other test images (for other "
    "images alone where a variant has one training). Standard deviation: between trainings. "
    "Training times are of each training alone; others may have run beside it."
)
"""What stands under the table of the variants."""

PARTS = {
    "layout": "layout of the class",
    "image": "image",
    "architecture": "architecture",
    "method": "method",
    "architecture_method": "method (by architecture)",
    "seed": "seed",
    "seed_method": "seed (by method)",
}
"""What compare.decomposition.PARTS are called in a chart."""


def title(results: Values) -> str:
    """The heading of the page."""
    trainings, models = len(results["trainings"]), len(results["variants"])
    return f"{plural(trainings, 'training')} of {plural(models, 'model')}, compared"


def findings(results: Values) -> list[str]:
    """What the study shows, the most important first.

    What is said of each variant and each pair stands in its own section alone if there are many.
    """
    sentences = [_accuracies(results)]
    if len(results["variants"]) <= MANY_VARIANTS:
        sentences += [_difference(row, called(results)) for row in results["differences"]]
        sentences += agreement(results)
    if results["decomposition"]:
        sentences.append(parts(results))
    if len(results["variants"]) <= MANY_VARIANTS:
        sentences += [methods(of) for of in results["variants"].values()]
    if results["errors"]["with_agreement"]:
        sentences.append(errors(results["errors"]))
    return sentences


def few(results: Values) -> str | None:
    """How little one or two trainings say; None with more."""
    return FEW_TRAININGS.get(
        min(len(of["accuracy"]["values"]) for of in results["variants"].values())
    )


def notice(results: Values) -> str | None:
    """Variants whose trainings differ in more than their seeds; None if there are none."""
    conditions: dict[str, set[tuple[str, str]]] = {}
    for training in results["trainings"]:
        found = conditions.setdefault(training["variant"], set())
        found.add((training["device"], training["precision"]))
    mixed = [called(results)[name] for name, of in conditions.items() if len(of) > 1]
    if not mixed:
        return None
    return (
        f"The trainings of {listed(mixed)} were not all made on the same kind of machine with the "
        "same precision, so they differ in more than their seeds."
    )


def _accuracies(results: Values) -> str:
    parts = []
    for of in results["variants"].values():
        accuracy = of["accuracy"]
        n = len(accuracy["values"])
        spread = (
            f"mean of {n} trainings, standard deviation {decimal(100 * accuracy['sd'], 2)} points"
            if n > 1
            else "one training"
        )
        parts.append(f"{of['label']} {percent(accuracy['value'])} ({spread})")
    return f"Test accuracy: {'; '.join(parts)}."


def called(results: Values) -> dict[str, str]:
    """What each variant is called within a sentence."""
    return {name: the(of["label"]) for name, of in results["variants"].items()}


def _difference(row: Values, names: dict[str, str]) -> str:
    """Whether one variant is more accurate than another, whatever the seed and the images."""
    (a, b), of = (names[name] for name in row["variants"]), row["accuracy"]
    if of["both"] is None:
        return (
            f"{capital(a)} minus {b}: {points(of['images'])} for other images. Without two "
            "trainings of each whose accuracies differ, nothing is known about other seeds."
        )
    sides = side(of["both"])
    if not sides:
        return (
            f"Which of {a} and {b} is more accurate is open: {points(of['both'])} for other seeds "
            f"and other images; {a} is ahead in {of['pairs_above']} of {of['pairs']} pairs of "
            f"trainings, {b} in {of['pairs_below']}."
        )
    better, worse, key = (a, b, "pairs_above") if sides > 0 else (b, a, "pairs_below")
    value, low, high = (sides * of["both"][end] for end in ("value", "low", "high"))
    lead = {"value": value, "low": min(low, high), "high": max(low, high)}
    pairs = f"in {of[key]} of {of['pairs']} pairs of trainings"
    return (
        f"{capital(better)} is more accurate than {worse}, {pairs}: by {points(lead)} for other "
        "seeds and other images."
    )


def agreement(results: Values) -> list[str]:
    """Whether two variants look at the same places as much as two trainings of one of them do.

    By the methods that all variants have: maps of two methods differ whatever the models are.
    """
    pairs: dict[tuple[str, str], dict[str, Values]] = {}
    for method, groups in results["agreement"]["by_method"].items():
        for group in groups:
            if group["relative"] is not None:
                pairs.setdefault(tuple(group["variants"]), {})[method] = group["relative"]
    sentences = []
    for (first, second), relative in pairs.items():
        a, b = called(results)[first], called(results)[second]
        known = results["variants"][first]["methods"]
        found: dict[int, list[str]] = {-1: [], 0: [], 1: []}
        for method, interval in relative.items():
            found[side(interval, 1.0)].append(named(method, known))
        words = {
            -1: "significantly below 1",
            0: "not significantly different from 1",
            1: "significantly above 1",
        }
        every = "" if len(relative) == 1 else " with any of them" if found[0] else " with each"
        verdicts = [
            words[verdict] + (every if len(by) == len(relative) else f" with {listed(by)}")
            for verdict, by in found.items()
            if by
        ]
        values = [f"{score(of)} with {named(method, known)}" for method, of in relative.items()]
        sentences.append(
            f"Relative to the agreement of two trainings of one variant, which is 1, that of {a} "
            f"and {b} is {listed(values)}: {'; '.join(verdicts)}."
        )
    return sentences


def no_ceiling(results: Values) -> str | None:
    """Why nothing is said of the noise ceiling; None where something is."""
    if agreement(results):
        return None
    return (
        "Whether two variants agree as well as two trainings of one of them is not known: it takes "
        "two variants, two seeds of each, and trainings whose maps agree above chance."
    )


def parts(results: Values) -> str:
    """What a map is made of: the parts whose intervals are above 0."""
    found = results["decomposition"]
    shown = {key: of["value"] for key, of in found["parts"].items() if side(of) > 0}
    by_size = sorted(shown, key=shown.__getitem__, reverse=True)
    shares = [f"{percent(shown[key], 0)} {PARTS[key]}" for key in by_size]
    known = next(iter(results["variants"].values()))["methods"]
    by = listed([named(method, known) for method in found["methods"]])
    rest = "" if len(shown) == len(PARTS) else " No other part is significantly above 0."
    return (
        f"On {count(found['n'])} images and with the methods {by}, a map is {listed(shares)}.{rest}"
    )


def methods(of: Values) -> str:
    """How many conclusions about a variant's attribution methods hold for all its trainings."""
    conclusions, label = of["conclusions"], of["label"]
    n = len(of["accuracy"]["values"])
    if n < 2:
        return f"{label}: one training does not show which conclusions about methods hold."
    drawn = [each for each in conclusions if each["holds"] != "open"]
    if not drawn:
        return f"{label}: no training shows anything significant about attribution methods."
    kept = sum(each["holds"] in ("always", "never") for each in drawn)
    flips = [sentence(each, of["methods"]) for each in drawn if each["holds"] == "flips"]
    rest = len(drawn) - kept - len(flips)
    ends = f": {'; '.join(flips)}" if flips else ""
    return (
        f"{label}: at least one training shows {plural(len(drawn), 'conclusion')} about "
        f"attribution methods: {count(kept)} in all {n} trainings, {count(rest)} in only some, and "
        f"{count(len(flips)) if flips else 'none'} that {'flip' if len(flips) > 1 else 'flips'} "
        f"between trainings{ends}."
    )


def sentence(conclusion: Values, methods: Values) -> str:
    """What a conclusion claims, without a full stop."""
    method = named(conclusion["method"], methods)
    if conclusion["kind"] == "above_zero":
        return f"{method} has an SRG above 0"
    if conclusion["kind"] == "contrast":
        return f"{method} is about its class"
    return f"{method} is ahead of {named(conclusion['other'], methods)}"


def shown(sides: Sequence[int]) -> str:
    """A conclusion in each training: + it, − its opposite, 0 neither."""
    return " ".join({1: "+", -1: "−", 0: "0"}[each] for each in sides)


def errors(found: Values) -> str:
    """Whether trainings that err on the same images look at the same places."""
    overall, within = found["with_agreement"], found["within_variants"]
    text = (
        "Over all pairs of trainings, the correlation of error consistency and the agreement of "
        f"the maps is {decimal(overall['correlation'])} ({p_value(overall['p_value'])}, Mantel)"
    )
    if overall["p_value"] >= 0.05:
        return f"{text}: whether trainings that err alike look alike is open."
    what = "look alike" if overall["correlation"] > 0 else "look at different places"
    if within is None:
        return f"{text}: those that err alike {what}."
    rest = f"{decimal(within['correlation'])} ({p_value(within['p_value'])})"
    if within["p_value"] < 0.05 and within["correlation"] * overall["correlation"] < 0:
        return f"{text}. Without what the variants explain it is the reverse, {rest}."
    if within["p_value"] >= 0.05:
        return (
            f"{text}. Without what the variants explain it is {rest}, so nothing was shown beyond "
            "what trainings of one variant have in common."
        )
    return f"{text}, and without what the variants explain {rest}: those that err alike {what}."
