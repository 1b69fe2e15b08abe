"""How faithful the explanations are, and how those of the two models differ."""

from collections.abc import Mapping

from visavis.metrics.significance import side
from visavis.report.labels import named, the
from visavis.report.text.numbers import (
    NONE_SHOWN,
    Values,
    against_chance,
    capital,
    compared,
    count,
    listed,
    percent,
    score,
    share,
)
from visavis.run_folder import ROLES


def meaningful(explanations: Values, label: str) -> list[str]:
    """Are the regions that the default map highlights meaningful? The verdict, then its numbers."""
    values = explanations["methods"][explanations["default_method"]]
    scores = values["scores"]
    sentences = [
        _verdict(explanations, label),
        *_faithfulness(scores, explanations["baselines"]),
        *_localization(values, explanations),
    ]
    if values["degenerate"]:
        sentences.append(
            f"Degenerate, that is flat or not finite, and excluded from every score: "
            f"{count(values['degenerate'])} of the {count(explanations['n'])} maps."
        )
    return sentences


NEGLIGIBLE = 0.005
"""An SRG that is shown as 0.00: of a model at chance it may be significantly above that of a blob,
and still say nothing."""


def _verdict(explanations: Values, label: str) -> str:
    """Meaningful: better than a blob, centre, edges and, with a mask, chance; and of its class."""
    default, methods = explanations["default_method"], explanations["methods"]
    values, name, model = methods[default], named(default, methods), the(label)
    lead, mask = values["srg_ahead_of"], values["mask_ahead_of"]
    if values["scores"]["srg"] is None:
        return f"No SRG could be computed for {name}, so its faithfulness is unknown."
    if abs(values["scores"]["srg"]["value"]) < NEGLIGIBLE:
        return (
            f"Masking the regions highlighted by {name} changes the confidence of {model} hardly "
            "more than masking the others, so they are not shown to be meaningful."
        )
    blob = named("blob")
    if side(lead["blob"]) < 1:
        effect = "matter less" if side(lead["blob"]) else "do not matter significantly more"
        return f"The regions highlighted by {name} {effect} to {model} than {blob}."
    text = f"The regions highlighted by {name} matter more to {model} than {blob}"
    unbeaten = [key for key in ("centre", "edges") if side(lead[key]) < 1]
    if unbeaten:
        return f"{text}, but not significantly more than the image's {' or '.join(unbeaten)}."
    text += ", the image's centre or its edges"
    if mask is not None and side(mask["chance"]) < 1:
        return (
            f"{text}, but they do not match the ground-truth mask significantly better than chance."
        )
    if side(values["scores"]["contrast"]) < 1:
        return (
            f"{text}, but not significantly more than those of the runner-up's map, so they are "
            "not shown to be evidence for the predicted class."
        )
    return f"{text}: by this measure, they are meaningful."


def _faithfulness(scores: Values, baselines: Values) -> list[str]:
    sentences = []
    if (srg := scores["srg"]) is not None:
        rivals = listed(
            [
                f"{named(name)} has {score(baselines[name]['scores']['srg'])}"
                for name in ("blob", "centre", "edges")
            ]
        )
        sentences.append(
            f"SRG: {score(srg)}, where 0 is a map that knows nothing. "
            f"The mean confidence is {score(scores['deletion'])} while the highest-ranked cells "
            f"are masked first, and {score(scores['insertion'])} while the lowest-ranked are; "
            f"{rivals}."
        )
    if (contrast := scores["contrast"]) is not None:
        verdict = {
            1: "the map is about its class",
            -1: "the map of the runner-up explains the prediction better",
        }.get(side(contrast), "not significantly about its class")
        sentences.append(
            f"Contrast: {score(contrast)}, the SRG less that of the runner-up's map: {verdict}."
        )
    return sentences


def _localization(method: Values, explanations: Values) -> list[str]:
    """Where the map lies, and whether it depends on the class."""
    sentences, scores = [], method["scores"]
    mask, chance = scores["relevance_mass"], explanations["mask_chance"]
    if mask is not None and chance is not None:
        verdict = against_chance(side(method["mask_ahead_of"]["chance"]))
        sentences.append(
            f"Localization: {share(mask)} of the map lies on the ground-truth mask, which "
            f"covers {share(chance)} of the image: {verdict}."
        )
    centre, even = scores["central_mass"], explanations["centre_chance"]
    if centre is not None:
        lean = {1: "it is biased towards the centre", -1: "it is biased away from the centre"}
        sentences.append(
            f"Centre: {share(centre)} of the map lies in the image's central quarter, where a "
            f"uniform map has {percent(even)}: "
            f"{lean.get(side(centre, even), 'no significant bias')}."
        )
    if (sensitivity := scores["class_sensitivity"]) is not None:
        sentences.append(
            f"Class sensitivity: {score(sensitivity)}, where 0 is the same map for every class and "
            "1 an unrelated map."
        )
    return sentences


def mistakes(label: str, facts: Values) -> str:
    """How confident a model is when it is wrong, and whether it then looks elsewhere.

    `facts` is the model's part of comparison.json's `mistakes`.
    """
    correct, wrong = facts["correct_confidence"], facts["incorrect_confidence"]
    place = facts["same_place"]
    effect = {1: "less", -1: "more", 0: "not significantly less"}[compared(correct, wrong)]
    text = (
        f"{the(label, 'The')} is {effect} confident when it is wrong: its mean confidence is "
        f"{share(correct)} on correct predictions and {share(wrong)} on incorrect ones."
    )
    if correct is None or wrong is None:
        which = "correct" if correct is None else "incorrect"
        text = f"{the(label, 'The')} makes too few {which} predictions to compare its confidence."
    if place["above_chance"] is None:
        return (
            f"{text} Too few of the images that it misclassifies have both maps "
            "to compare where it looks."
        )
    found = {
        1: "it finds evidence for the wrong class in partly the same regions",
        -1: "it finds evidence for the wrong class in other regions than for the true class",
    }
    return (
        f"{text} On {count(place['n'])} images that it misclassifies, its maps for "
        "the predicted and for the true class have a rank correlation of "
        f"{score(place['agreement'])}, against {score(place['permutation_baseline'])} with "
        "either taken from another image predicted as the same class: "
        f"{found.get(side(place['above_chance']), 'not significantly above a shared layout')}."
    )


def methods_compared(explanations: Values, label: str) -> str:
    """Which of a model's maps is the most faithful."""
    methods = explanations["methods"]
    known = {
        key: method["scores"]["srg"]
        for key, method in methods.items()
        if method["scores"]["srg"] is not None
    }
    if not known:
        return f"No SRG could be computed for any of {the(label)}'s methods."
    best = max(known, key=lambda key: known[key]["value"])
    text = (
        f"Among {the(label)}'s methods, {named(best, methods)} has the highest SRG, "
        f"{score(known[best])}."
    )
    lead = methods[best]["srg_ahead_of"]
    others = [key for key in known if key != best]
    for beaten, relation in ((True, "significantly"), (False, "not significantly")):
        names = [key for key in others if (side(lead[key]) == 1) == beaten]
        if names:
            scored = "; ".join(f"{named(key, methods)}, {score(known[key])}" for key in names)
            text += f" It is {relation} above {scored}."
    below = [
        named(key, methods) for key in known if side(methods[key]["srg_ahead_of"]["centre"]) == -1
    ]
    if below:
        centre = explanations["baselines"]["centre"]["scores"]["srg"]
        verb = "are" if len(below) > 1 else "is"
        text += (
            f" {capital(listed(below))} {verb} significantly below the centre map, {score(centre)}."
        )
    return text


def more_central(explained: Mapping[str, Values], comparison: Values) -> str:
    """Which of the two default maps lies more in the centre."""
    first, second = (the(comparison["labels"][role]) for role in ROLES)
    x, y = (
        of["methods"][of["default_method"]]["scores"]["central_mass"] for of in explained.values()
    )
    lies = {1: f"{first}'s is more central", -1: f"{second}'s is more central"}
    return (
        f"The central quarter holds {share(x)} of {first}'s map and {share(y)} of {second}'s: "
        f"{lies.get(compared(x, y), NONE_SHOWN)}."
    )


def side_by_side(pair: Values) -> str:
    """How the two images of 2.2 c were chosen; `pair` is `side_by_side`."""
    if not (pair["highest_agreement"] or pair["lowest_agreement"]):
        return "No sampled test image is classified correctly and explained by both models."
    return f"The two images were chosen by a fixed rule: {pair['rule']}."
