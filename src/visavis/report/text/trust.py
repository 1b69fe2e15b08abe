"""How far the explanations can be trusted: one row of checks for each method and model."""

from collections.abc import Mapping

from visavis.report.text.numbers import (
    MAPS,
    NAMES,
    NONE_SHOWN,
    Interval,
    Values,
    compared,
    count,
    decimal,
    listed,
    percent,
    score,
    share,
    side,
)

CHECKS = {
    "random": "Guides deletion better than a random order",
    "trivial_baselines": "and better than centre, edges and mean map",
    "blurred": "Both also with blurred holes",
    "weights": "Needs what was learnt",
    "class": "Points at the class asked about",
    "mask": "Lies on the deciding pixels",
}
"""What is asked of a map. A check is passed where its interval says so."""

SHORTCUTS = ("centre", "edges", "mean")
LITTLE = 0.2
"""Rank correlation beyond the floor that may be left after shuffling."""

Check = tuple[int | None, str]
"""1 shown, 0 not shown, -1 the contrary was shown, None not asked; and the number behind it."""


def scorecard(explanations: Values, cross_model: Values) -> dict[str, dict[str, Check]]:
    """For each method of a model the outcome of each of CHECKS; `mask` on shapes alone."""
    found = {}
    for name, method in explanations["methods"].items():
        scores = method["scores"]
        blurred = scores["deletion_blur"]
        checks: dict[str, Check] = {
            "random": (side(scores["deletion"]), _value(scores["deletion"])),
            "trivial_baselines": _leads(method["deletion_ahead_of"]),
            "blurred": min(
                (side(blurred), _value(blurred)),
                _leads(method["deletion_blur_ahead_of"]),
                key=lambda check: check[0] or 0,
            ),
            "weights": _weights(method["randomised"]["above_chance"]),
            "class": _class(explanations["model"], name, method, cross_model),
        }
        if name == "occlusion":  # it is the oracle of the mean colour, but for log-odds
            checks["random"] = checks["trivial_baselines"] = (None, "by construction")
        if explanations["mask_chance"] is not None:
            checks["mask"] = _mask(scores["relevance_mass"], explanations)
        found[name] = checks
    return found


def trusted(explanations: Values, cross_model: Values) -> str:
    """Which of a model's maps passed all checks, and where its main map fell short."""
    card = scorecard(explanations, cross_model)
    model, main = NAMES[explanations["model"]], explanations["default_method"]
    methods = explanations["methods"]
    passed = [
        n for n, checks in card.items() if methods[n]["class_specific"] and not _short_of(checks)
    ]
    asked = len([verdict for verdict, _ in card[main].values() if verdict is not None])
    text = (
        f"Of the {model}'s {count(len(card))} kinds of map, "
        f"{listed([MAPS[name] for name in passed]) or 'none'} passed every check asked of it"
    )
    short = _short_of(card[main])
    if not short:
        return f"{text}; the main one, {MAPS[main]}, is among them." if passed[1:] else f"{text}."
    return (
        f"{text}. The main one, {MAPS[main]}, passed {asked - len(short)} of {asked} and fell "
        f"short of: {'; '.join(CHECKS[check].removeprefix('and ').lower() for check in short)}."
    )


def keep_top_k(explanations: Values) -> str:
    """How little of a image is enough when a model's main map chooses it."""
    main = explanations["default_method"]
    own = explanations["methods"][main]["scores"]
    chance = explanations["baselines"]["random"]["scores"]
    model = NAMES[explanations["model"]]
    area, by_chance = own["minimal_subset"], chance["minimal_subset"]
    if area is None or by_chance is None:
        return f"How little of a image is enough for the {model} could not be measured."
    verdict = {
        -1: "less than a random choice needs",
        1: "more than a random choice needs",
    }.get(compared(area, by_chance), "no less than a random choice, as far as was shown")
    return (
        f"By {MAPS[main]}, {share(area)} of a image is enough for the {model} to give the same "
        f"answer, {verdict} ({share(by_chance)}). With a fifth of the cells it is right on "
        f"{share(own['keep_top_20'])} of the images, with a random fifth on "
        f"{share(chance['keep_top_20'])}."
    )


def idsds(cnn: Values, vit: Values) -> str:
    """Whose main map fits better what the model loses without each cell."""
    methods = [values["default_method"] for values in (cnn, vit)]
    a, b = (
        values["methods"][method]["scores"]["idsds"]
        for values, method in zip((cnn, vit), methods, strict=True)
    )
    if a is None or b is None:
        return "Too few maps hold evidence for their single-deletion scores to be compared."
    better = {1: "the CNN's map fits better", -1: "the ViT's map fits better"}
    return (
        f"The single-deletion score of the CNN's {MAPS[methods[0]]} is {score(a)}, of the ViT's "
        f"{MAPS[methods[1]]} {score(b)}: {better.get(compared(a, b), NONE_SHOWN)}."
    )


def composites(cross_model: Values) -> list[str]:
    """Do the maps point at their class where two classes are in one image?"""
    halves = cross_model["composites"]["halves"]
    if halves["n"] < 20:
        return [
            "On too few images made of two did both models recognise both classes for their maps "
            "to be tried there."
        ]
    known = " and ".join(
        f"the {NAMES[name]} recognises both classes in {percent(of, 0)}"
        for name, of in halves["recognised"].items()
    )
    sentences = [
        f"Of {count(halves['candidates'])} images made of the halves of two, {known}; maps were "
        f"tried on {count(halves['n'])} where both models do."
    ]
    for name, main in cross_model["default_methods"].items():
        energy = halves["methods"][name][main]["energy"]
        verdict = {1: "more than chance", -1: "less than chance"}
        sentences.append(
            f"Of the {NAMES[name]}'s {MAPS[main]}, {share(energy)} lies on the half of the class "
            f"asked about, where chance is {percent(halves['chance'], 0)}: "
            f"{verdict.get(side(energy, halves['chance']), 'no difference from chance was shown')}."
        )
    sentences.append(
        "A map that knows no class is the same for both classes, so its two shares sum to exactly "
        "100 % and it can only score chance: attention and rollout are no explanation of a "
        "class, whatever they show."
    )
    return sentences


def shuffled(explanations: Values) -> str:
    """What is left of a model's maps when it forgets all that it has learnt."""
    methods = explanations["methods"]
    kept = [
        f"{MAPS[name]} ({score(method['shuffled']['agreement'])}, floor "
        f"{score(method['shuffled']['floor'])})"
        for name, method in methods.items()
        if side(method["randomised"]["above_chance"]) == 1
    ]
    model = NAMES[explanations["model"]]
    if not kept:
        return (
            f"With all weights of the {model} shuffled, none of its maps was shown to resemble the "
            "true one more than the shuffled model's map of another image of the class does."
        )
    return (
        f"With all weights of the {model} shuffled, something of the image is left in "
        f"{'; '.join(kept)}: more than in the shuffled model's map of another image of the "
        "class, so a part of these maps shows the image and not what the model has learnt."
    )


def _leads(ahead_of: Mapping[str, Interval | None]) -> Check:
    """The worst lead over the shortcuts."""
    leads = {name: ahead_of[name] for name in SHORTCUTS}
    known = {name: lead for name, lead in leads.items() if lead is not None}
    if not known:
        return 0, "–"
    name = min(known, key=lambda key: (side(known[key]), known[key]["value"]))
    worst = side(known[name]) if len(known) == len(leads) else min(0, side(known[name]))
    return worst, f"{_signed(known[name]['value'])} over {MAPS[name].removeprefix('the ')}"


def _weights(excess: Interval | None) -> Check:
    """Passed if hardly anything of the map is left beyond the floor."""
    if excess is None:
        return None, "no map left"
    left = f"{_signed(excess['value'])} left"
    return side(
        {"value": 0.0, "low": LITTLE - excess["high"], "high": LITTLE - excess["low"]}
    ), left


def _class(model: str, name: str, method: Values, cross_model: Values) -> Check:
    """Passed if on both kinds of composites the map lies on its class's part more than chance."""
    if not method["class_specific"]:
        return None, "knows no class"
    outcomes = []
    for kind, part in (("halves", "its half"), ("box", "its part")):
        of = cross_model["composites"][kind]
        energy = of["methods"][model][name]["energy"]
        if energy is None:
            return None, "too few images"
        told = f"{percent(energy['value'], 0)} on {part}"
        outcomes.append((side(energy, of["chance"]), told))
    return min(outcomes, key=lambda outcome: outcome[0])


def _mask(inside: Interval | None, explanations: Values) -> Check:
    """Passed if more of the map is inside than of an even, a centred and an edge map."""
    rivals = [explanations["mask_chance"]]
    rivals += [
        explanations["baselines"][b]["scores"]["relevance_mass"] for b in ("centre", "edges")
    ]
    if inside is None:
        return 0, "–"
    return min(compared(inside, rival) for rival in rivals), percent(inside["value"], 0)


def _short_of(checks: Mapping[str, Check]) -> list[str]:
    return [name for name, (verdict, _) in checks.items() if verdict is not None and verdict < 1]


def _value(interval: Interval | None) -> str:
    return "–" if interval is None else decimal(interval["value"])


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")
