"""How far the explanations can be trusted: one row of checks for each method and model."""

from collections.abc import Mapping

from visavis.metrics.significance import side
from visavis.report.labels import named, the
from visavis.report.text.numbers import (
    NONE_SHOWN,
    Interval,
    Values,
    against_chance,
    compared,
    count,
    decimal,
    listed,
    percent,
    score,
    share,
)
from visavis.run_folder import ROLES

CHECKS = {
    "blob": "Beats a blob at a random place",
    "trivial_baselines": "Beats centre, edges and mean map",
    "fills": "Beats all of these with either fill",
    "contrast": "Is about its class",
    "weights": "Depends on the weights",
    "class": "Points at its class",
    "mask": "Lies on the mask",
}
"""The checks of a map; each is passed only if its 95 % interval shows it."""

TRIVIAL_BASELINES = ("centre", "edges", "mean")
MAX_AGREEMENT_RANDOMISED = 0.2
"""Agreement above chance that may remain once all parameters are randomised."""

Check = tuple[int | None, str]
"""1 passed, 0 not significant, -1 failed, None not applicable; and the number behind it."""


def scorecard(explanations: Values, cross_model: Values, role: str) -> dict[str, dict[str, Check]]:
    """For each method of a model the outcome of each of CHECKS; `mask` on shapes alone."""
    found = {}
    for name, method in explanations["methods"].items():
        scores = method["scores"]
        checks: dict[str, Check] = {
            "blob": _lead(method["srg_ahead_of"]["blob"]),
            "trivial_baselines": _leads(
                {name: method["srg_ahead_of"][name] for name in TRIVIAL_BASELINES}
            ),
            "fills": _leads(
                {
                    f"{name} ({fill})": method[f"srg_{fill}_fill_ahead_of"][name]
                    for name in ("blob", *TRIVIAL_BASELINES)
                    for fill in ("mean", "blur")
                }
            ),
            "contrast": _contrast(method),
            "weights": _weights(method["randomised"]),
            "class": _class(role, name, method, cross_model),
        }
        if explanations["mask_chance"] is not None:
            checks["mask"] = _mask(scores["relevance_mass"], method["mask_ahead_of"])
        found[name] = checks
    return found


def trusted(explanations: Values, cross_model: Values, role: str) -> str:
    """Which of a model's methods passed all checks, and which checks its default method did not."""
    card = scorecard(explanations, cross_model, role)
    methods, main = explanations["methods"], explanations["default_method"]
    default = named(main, methods)
    passed = [
        n for n, checks in card.items() if methods[n]["class_specific"] and not _missed(checks)
    ]
    applicable = len([verdict for verdict, _ in card[main].values() if verdict is not None])
    text = (
        f"Of {the(cross_model['labels'][role])}'s {count(len(card))} methods, "
        f"{listed([named(name, methods) for name in passed]) or 'none'} passed every applicable "
        "check"
    )
    missed = _missed(card[main])
    if not missed:
        among = f"; the default method, {default}, is among them" if passed[1:] else ""
        return f"{text}{among}."
    return (
        f"{text}. The default method, {default}, passed {applicable - len(missed)} of "
        f"{applicable} and did not pass: {'; '.join(CHECKS[check].lower() for check in missed)}."
    )


def keep_top(explanations: Values, label: str) -> str:
    """How accurate a model is with the fifth of the cells that its default map ranks highest."""
    main, methods = explanations["default_method"], explanations["methods"]
    own, ahead = methods[main]["scores"]["keep_top_20"], methods[main]["keep_top_ahead_of"]["blob"]
    chance = explanations["baselines"]["blob"]["scores"]["keep_top_20"]
    words = {1: "higher than", -1: "lower than", 0: "not significantly different from"}
    return (
        f"With only the fifth of the cells that {named(main, methods)} ranks highest, the "
        f"accuracy of {the(label)} is {share(own)}, {words[side(ahead)]} that with a blob of that "
        f"size at a random place, {share(chance)}."
    )


def idsds(explained: Mapping[str, Values], labels: Mapping[str, str]) -> str:
    """Whose default map has the higher in-domain single deletion score."""
    first, second = (the(labels[role]) for role in ROLES)
    maps = [named(of["default_method"], of["methods"]) for of in explained.values()]
    a, b = (of["methods"][of["default_method"]]["scores"]["idsds"] for of in explained.values())
    if a is None or b is None:
        return "Too few maps are valid to compare their in-domain single deletion scores."
    higher = {1: f"{first}'s is higher", -1: f"{second}'s is higher"}
    return (
        f"The IDSDS of {first}'s {maps[0]} is {score(a)}, of {second}'s {maps[1]} {score(b)}: "
        f"{higher.get(compared(a, b), NONE_SHOWN)}."
    )


def scores_tested(explanations: Values, label: str) -> str:
    """Whether SRG itself passed its test against the known truth."""
    found = explanations["score_validation"]
    srg = found["scores"]["srg"]
    text = (
        f"On {the(label)}, the order of {count(len(found['maps']))} maps by SRG has a rank "
        f"correlation of {decimal(srg['correlation']['clean_plate'])} with their order by clean "
        f"plates, and of {decimal(srg['correlation']['shapley'])} with that by Shapley values; a "
        f"blob at a random place has {score(srg['blob'])}"
    )
    if found["passed"]:
        return f"{text}, and SRG falls as a map is spoilt step by step: it passed."
    return f"{text}. It did not pass: {'; '.join(found['failed_because'])}."


def other_background(explanations: Values, label: str) -> str:
    """Whether a model's prediction and its default map follow the shape or what is behind it."""
    found, main = explanations["other_background"], explanations["default_method"]
    of = found["methods"][main]
    text = (
        f"With the same shape on another background, the prediction of {the(label)} stays the same "
        f"on {share(found['prediction'])} of {count(found['n'])} images."
    )
    if of["map"] is None or of["map_baseline"] is None:
        return (
            f"{text} Too few of them have a valid map, and another image with the same prediction, "
            "to say whether the maps follow the shape."
        )
    return (
        f"{text} The two maps by {named(main, explanations['methods'])} have a rank correlation of "
        f"{score(of['map'])}, against {score(of['map_baseline'])} with that of another image "
        "predicted as the same class."
    )


def composites(explained: Mapping[str, Values], cross_model: Values) -> list[str]:
    """Do the maps localize their class in composites of two images?"""
    halves = cross_model["composites"]["halves"]
    if halves["n"] < 20:
        return [
            "Both models recognise both classes in too few composites to evaluate their maps there."
        ]
    names = {role: the(label) for role, label in cross_model["labels"].items()}
    known = " and ".join(
        f"{names[role]} recognises both classes in {percent(of, 0)}"
        for role, of in halves["recognised"].items()
    )
    sentences = [
        f"Of {count(halves['candidates'])} composites of two image halves, {known}; maps are "
        f"evaluated on {count(halves['n'])} of those where both models do."
    ]
    agnostic: dict[str, str] = {}
    for role, main in cross_model["default_methods"].items():
        methods = explained[role]["methods"]
        agnostic |= {
            key: named(key, methods) for key in methods if not methods[key]["class_specific"]
        }
        energy = halves["methods"][role][main]["energy"]
        sentences.append(
            f"Of {names[role]}'s {named(main, methods)}, {share(energy)} lies on the half of the "
            f"target class, where chance is {percent(halves['chance'], 0)}: "
            f"{against_chance(side(energy, halves['chance']))}."
        )
    if agnostic:
        sentences.append(
            f"A class-agnostic map ({', '.join(agnostic.values())}) is the same for both classes, "
            "so its two shares sum to exactly 100 % and it can only score chance: it does not "
            "explain a class."
        )
    return sentences


def randomised(explanations: Values, label: str) -> str:
    """Which maps still agree with the original ones once all parameters are randomised."""
    methods = explanations["methods"]
    kept = [
        f"{named(name, methods)} ({score(method['randomised']['agreement'])}, baseline "
        f"{score(method['randomised']['permutation_baseline'])})"
        for name, method in methods.items()
        if side(method["randomised"]["above_chance"]) == 1
    ]
    model = the(label)
    if all(of["randomised"]["above_chance"] is None for of in methods.values()):
        return (
            f"Too few maps of {model}, with all of its parameters randomised, are valid and of an "
            "image with another of its class to tell what agrees with the original ones."
        )
    if not kept:
        return (
            f"With all parameters of {model} randomised, no method agrees with its original "
            "maps significantly above chance."
        )
    return (
        f"With all parameters of {model} randomised, these methods still agree with their "
        f"original maps above chance: {'; '.join(kept)}. This part of a map reflects the image, "
        "not what the model has learned."
    )


def _leads(leads: Mapping[str, Interval | None]) -> Check:
    """The smallest of some leads over baselines."""
    known = {name: lead for name, lead in leads.items() if lead is not None}
    if not known:
        return 0, "–"
    name = min(known, key=lambda key: (side(known[key]), known[key]["value"]))
    worst = side(known[name]) if len(known) == len(leads) else min(0, side(known[name]))
    return worst, f"{_signed(known[name]['value'])}, {name}"


def _lead(ahead: Interval | None) -> Check:
    return side(ahead), "–" if ahead is None else _signed(ahead["value"])


def _contrast(method: Values) -> Check:
    if not method["class_specific"]:
        return None, "class-agnostic"
    return _lead(method["scores"]["contrast"])


def _weights(randomised: Values) -> Check:
    """Passed if hardly any agreement above chance is left."""
    above_chance = randomised["above_chance"]
    if above_chance is None:
        return None, "too few images" if randomised["agreement"] else "no map left"
    left = f"{_signed(above_chance['value'])} left"
    return -side(above_chance, MAX_AGREEMENT_RANDOMISED), left


def _class(role: str, name: str, method: Values, cross_model: Values) -> Check:
    """Passed if on both kinds of composites the map lies on its class's part more than chance."""
    if not method["class_specific"]:
        return None, "class-agnostic"
    outcomes, kinds = [], (("halves", "halves"), ("box", "boxes"))
    for kind, part in kinds:
        of = cross_model["composites"][kind]
        if (energy := of["methods"][role][name]["energy"]) is not None:
            number = f"{percent(energy['value'], 0)}, {part}"
            outcomes.append((side(energy, of["chance"]), number))
    worst = min(outcomes, key=lambda outcome: outcome[0], default=(1, ""))
    if worst[0] == 1 and len(outcomes) < len(kinds):  # what is known does not fail
        return None, "too few images"
    return worst


def _mask(inside: Interval | None, ahead_of: Mapping[str, Interval | None]) -> Check:
    """Passed if more of the map is inside than of an even, a centred and an edge map."""
    if inside is None:
        return 0, "–"
    return min(side(lead) for lead in ahead_of.values()), percent(inside["value"], 0)


def _missed(checks: Mapping[str, Check]) -> list[str]:
    return [name for name, (verdict, _) in checks.items() if verdict is not None and verdict < 1]


def _signed(value: float) -> str:
    return decimal(value) if round(value, 2) <= 0 else f"+{decimal(value)}"
