"""What a study shows, in sentences that follow the intervals."""

from collections import Counter
from collections.abc import Sequence

from visavis.metrics.significance import side
from visavis.report.labels import named, the
from visavis.report.text.numbers import (
    Interval,
    Values,
    capital,
    count,
    decimal,
    listed,
    p_value,
    percent,
)

FEW = {
    1: "One training of a variant shows nothing of what chance does; train at least 3 seeds.",
    2: "Two trainings say little: the true standard deviation may be 0.4 to 32 times theirs "
    "(95 % interval); train at least 3 seeds.",
}
"""By the number of trainings. 1 / sqrt(q) for the 97.5 % and 2.5 % quantiles q of chi-square with
one degree of freedom, if accuracies are normally distributed."""

HOLDS = {
    "always": "in every training",
    "never": "the opposite in every training",
    "flips": "flips between trainings",
    "sometimes": "significant in some trainings",
    "open": "not significant in any",
}

PARTS = {
    "layout": "layout of the class",
    "image": "image",
    "architecture": "architecture",
    "method": "method",
    "architecture_method": "method, by architecture",
    "seed": "seed",
    "seed_method": "seed, by method",
}
"""What compare.decomposition.PARTS are called in a chart."""


def findings(results: Values) -> list[str]:
    """What the study shows, the most important first."""
    sentences = [_accuracies(results)]
    sentences += [_difference(row, called(results)) for row in results["differences"]]
    sentences += agreement(results)
    if results["decomposition"]:
        sentences.append(parts(results["decomposition"]))
    sentences += [methods(of) for of in results["variants"].values()]
    if results["errors"]["with_agreement"]:
        sentences.append(errors(results["errors"]["with_agreement"]))
    return sentences


def few(results: Values) -> str | None:
    """How little one or two trainings say; None with more."""
    return FEW.get(min(len(of["accuracy"]["values"]) for of in results["variants"].values()))


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
            f"{capital(a)} minus {b}: {_points(of['images'])} for other images. Without a second "
            "training of each, nothing is known about other seeds."
        )
    sides = side(of["both"])
    share = of["pairs_above"] if sides >= 0 else 1 - of["pairs_above"]
    range_ = f"{_points(of['both'])} for other seeds and other images"
    if sides:
        better, worse = (a, b) if sides > 0 else (b, a)
        pairs = "every pair" if share == 1 else f"{percent(share, 0)} of the pairs"
        return (
            f"{capital(better)} is more accurate than {worse}, in {pairs} of trainings ({range_})."
        )
    return (
        f"Which of {a} and {b} is more accurate is open: {range_}; {a} is ahead in "
        f"{percent(of['pairs_above'], 0)} of the pairs of trainings."
    )


def _points(interval: Interval | None) -> str:
    if interval is None:
        return "not available"
    value, low, high = (decimal(100 * interval[key], 1) for key in ("value", "low", "high"))
    return f"{value} percentage points, {low} to {high}"


def agreement(results: Values) -> list[str]:
    """Whether two trainings of a variant look at the same places more than two variants do."""
    sentences = []
    for group in results["agreement"]["groups"]:
        relative = group["relative"]
        if relative is None:
            continue
        a, b = (called(results)[name] for name in group["variants"])
        verdict = {
            -1: f"so {a} and {b} differ more than two trainings of one variant",
            1: f"so {a} and {b} agree more than two trainings of one variant",
        }.get(side(relative, 1.0), "which does not differ significantly from 1")
        apart = _apart(results, *group["variants"])
        sentences.append(
            f"The maps of {a} and {b} agree {_range(relative)} times as well as those of two "
            f"trainings of one variant, {verdict}.{apart}"
        )
    return sentences


def _apart(results: Values, a: str, b: str) -> str:
    """Whether each pair within a variant agrees better than each pair across both."""
    of = {tuple(group["variants"]): group for group in results["agreement"]["groups"]}
    within = [of[name, name]["lowest"] for name in (a, b)]
    across = of[a, b]["highest"]
    if None in within or across is None or min(within) <= across:
        return ""
    return " Each pair of trainings within a variant agrees better than each pair across both."


def _range(interval: Interval) -> str:
    value, low, high = (decimal(interval[key]) for key in ("value", "low", "high"))
    return f"{value} ({low} to {high})"


def parts(decomposition: Values) -> str:
    """What a map is made of."""
    known = {key: of["value"] for key, of in decomposition["parts"].items() if of}
    by_size = sorted(known, key=known.__getitem__, reverse=True)
    named_parts = [
        f"{PARTS[key]} {percent(known[key], 0)}" for key in by_size if known[key] > 0.005
    ]
    rest = "" if len(named_parts) == len(by_size) else "; nothing else measurably"
    return (
        f"What decides a map, over {count(decomposition['n'])} images and "
        f"{listed([named(method) for method in decomposition['methods']])}: "
        f"{', '.join(named_parts)}{rest}."
    )


def methods(of: Values) -> str:
    """How many conclusions about a variant's attribution methods hold for all its trainings."""
    conclusions = of["conclusions"]
    found = Counter(each["holds"] for each in conclusions)
    name, n = of["label"], len(of["accuracy"]["values"])
    if n < 2:
        return f"{name}: one training does not show which conclusions about methods hold."
    drawn = [each for each in conclusions if each["holds"] != "open"]
    kept = found["always"] + found["never"]
    flips = [sentence(each, of["methods"]) for each in conclusions if each["holds"] == "flips"]
    text = (
        f"{name}: of {len(drawn)} conclusions about attribution methods that some training shows, "
        f"{kept} hold in all {n}, {found['sometimes']} in some"
    )
    return (
        f"{text}, and {len(flips)} flip: {'; '.join(flips)}." if flips else f"{text}; none flips."
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


def errors(with_agreement: Values) -> str:
    """Whether trainings that err on the same images look at the same places."""
    value, p = with_agreement["correlation"], with_agreement["p_value"]
    if p >= 0.05:
        return (
            "Whether trainings that err on the same images look at the same places is open: the "
            f"correlation over all pairs is {decimal(value)} ({p_value(p)}, Mantel)."
        )
    verdict = "look at the same places, too" if value > 0 else "look at other places"
    return (
        f"Trainings that err on the same images {verdict}: the correlation over all pairs is "
        f"{decimal(value)} ({p_value(p)}, Mantel). Trainings of one variant do both."
    )
