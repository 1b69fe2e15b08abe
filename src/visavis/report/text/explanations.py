"""How faithful the explanations are, and how those of the two models differ."""

from collections.abc import Sequence

import numpy as np

from visavis.report.labels import METHODS, MODELS
from visavis.report.text.agreement import default_maps
from visavis.report.text.numbers import (
    NONE_SHOWN,
    Values,
    against_chance,
    capital,
    compared,
    count,
    decimal,
    listed,
    percent,
    score,
    share,
    side,
)


def meaningful(explanations: Values, method: str) -> list[str]:
    """Are the highlighted regions meaningful? The verdict, then each number behind it."""
    values = explanations["methods"][method]
    scores = values["scores"]
    sentences = [
        _verdict(explanations, method),
        *_faithfulness(scores, explanations["baselines"]),
        *_localization(scores, explanations),
    ]
    if values["degenerate"]:
        sentences.append(
            f"{count(values['degenerate'])} of the {count(explanations['n'])} maps were "
            "degenerate (flat or not finite) and are excluded from every score."
        )
    return sentences


def _verdict(explanations: Values, method: str) -> str:
    """Meaningful: better than a random order, centre, edges and, with a mask, chance."""
    values, label = explanations["methods"][method], METHODS[method]
    deletion, mask = values["scores"]["deletion"], values["scores"]["relevance_mass"]
    model = MODELS[explanations["model"]]
    if deletion is None:
        return f"No deletion score could be computed for {label}, so its faithfulness is unknown."
    if side(deletion) < 1:
        effect = "matter less" if side(deletion) else "do not matter significantly more"
        return f"The regions that {label} highlights {effect} to the {model} than random ones."
    text = f"The regions that {label} highlights matter more to the {model} than random ones"
    unbeaten = [key for key in ("centre", "edges") if side(values["deletion_ahead_of"][key]) < 1]
    if unbeaten:
        return f"{text}, but not significantly more than the image's {' or '.join(unbeaten)}."
    text += ", the image's centre or its edges"
    if mask is not None and compared(mask, explanations["mask_chance"]) < 1:
        return (
            f"{text}, but they do not match the ground-truth mask significantly better than chance."
        )
    return f"{text}: by this measure, they are meaningful."


def _faithfulness(scores: Values, baselines: Values) -> list[str]:
    sentences = []
    for key, act in (
        ("deletion", "Deletion: masking the highest-ranked cells first lowers the confidence"),
        ("insertion", "Insertion: revealing the highest-ranked cells first restores it"),
    ):
        if (value := scores[key]) is None:
            continue
        effect = {1: "faster", -1: "more slowly", 0: "not significantly faster"}[side(value)]
        rivals = " and ".join(
            f"{METHODS[name]} {score(baselines[name]['scores'][key])}"
            for name in ("centre", "edges")
        )
        sentences.append(
            f"{act} {effect} than a random order, with a score of {score(value)}, where 0 is a "
            f"random order and 1 the order of the model's own single-cell effects; {rivals}."
        )
    return sentences


def _localization(scores: Values, explanations: Values) -> list[str]:
    """Where the map lies, and whether it depends on the class."""
    sentences = []
    mask, chance = scores["relevance_mass"], explanations["mask_chance"]
    if mask is not None and chance is not None:
        sentences.append(
            f"Localization: {share(mask)} of the map lies on the ground-truth mask, which "
            f"covers {share(chance)} of the image: {against_chance(compared(mask, chance))}."
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


def mistakes(model: str, facts: Values) -> str:
    """How confident a model is when it is wrong, and whether it then looks elsewhere.

    `facts` is the model's part of comparison.json's `mistakes`.
    """
    correct, wrong = facts["correct_confidence"], facts["incorrect_confidence"]
    place = facts["same_place"]
    effect = {1: "less", -1: "more", 0: "not significantly less"}[compared(correct, wrong)]
    text = (
        f"The {MODELS[model]} is {effect} confident when it is wrong: its mean confidence is "
        f"{share(correct)} on correct predictions and {share(wrong)} on incorrect ones."
    )
    if place["above_chance"] is None:
        return (
            f"{text} Too few of the sampled images that it misclassifies have both maps "
            "to compare where it looks."
        )
    found = {
        1: "it finds evidence for the wrong class in partly the same regions",
        -1: "it finds evidence for the wrong class in other regions than for the true class",
    }
    return (
        f"{text} On {count(place['n'])} sampled images that it misclassifies, its maps for "
        "the predicted and for the true class have a rank correlation of "
        f"{score(place['agreement'])}, against {score(place['permutation_baseline'])} with the "
        "map of another image predicted as the same class: "
        f"{found.get(side(place['above_chance']), 'not significantly above a shared layout')}."
    )


def agnostic(explanations: Values) -> str:
    """Which methods are class-agnostic."""
    methods = explanations["methods"]
    unaware = [METHODS[key] for key, method in methods.items() if not method["class_specific"]]
    aware = [METHODS[key] for key, method in methods.items() if method["class_specific"]]
    return (
        f"{_with_verb(unaware)} class-agnostic: one map per image, whatever the target "
        "class, so it shows what the model reads but not why it predicts this class. "
        f"{_with_verb(aware)} computed for the predicted class."
    )


def attention_methods(explanations: Values) -> str:
    """Which of the ViT's own maps is the most faithful."""
    methods = explanations["methods"]
    known = {
        key: method["scores"]["deletion"]
        for key, method in methods.items()
        if method["scores"]["deletion"] is not None and key != "occlusion"  # the oracle, nearly
    }
    if not known:
        return "No deletion score could be computed for any of the ViT's methods."
    best = max(known, key=lambda key: known[key]["value"])
    text = (
        f"Among the ViT's methods, {METHODS[best]} has the highest deletion score, "
        f"{score(known[best])}."
    )
    lead = methods[best]["deletion_ahead_of"]
    others = [key for key in known if key != best]
    for beaten, relation in ((True, "significantly"), (False, "not significantly")):
        names = [key for key in others if (side(lead[key]) == 1) == beaten]
        if names:
            scored = "; ".join(f"{METHODS[key]}, {score(known[key])}" for key in names)
            text += f" It is {relation} above {scored}."
    below = [METHODS[k] for k in known if side(methods[k]["deletion_ahead_of"]["centre"]) == -1]
    if below:
        centre = explanations["baselines"]["centre"]["scores"]["deletion"]
        text += f" {_with_verb(below)} significantly below the centre map, {score(centre)}."
    return text


def between_models(cnn: Values, vit: Values, comparison: Values) -> list[str]:
    """How the CNN's map and the ViT's class-specific map differ, in faithfulness and location."""
    pair = comparison["side_by_side"]
    a = cnn["methods"][pair["cnn_method"]]
    b = vit["methods"][pair["vit_method"]]
    better = {
        1: "the CNN's map is more faithful",
        -1: "the ViT's map is more faithful",
        0: "neither is significantly more faithful on both scales",
    }
    sentences = []
    for key, raw in (("deletion", "deletion_drop"), ("insertion", "insertion_gain")):
        x, y = a["scores"][key], b["scores"][key]
        if x is None or y is None:
            continue
        u, w = a["scores"][raw], b["scores"][raw]
        # Each oracle belongs to one model, so a lead on its scale alone does not count.
        lead = compared(x, y) if compared(x, y) == compared(u, w) else 0
        sentences.append(
            f"Normalised {key} of the CNN's {METHODS[pair['cnn_method']]} is {score(x)}, of the "
            f"ViT's {METHODS[pair['vit_method']]} {score(y)}; unnormalised, the probability "
            f"changes by {score(u)} and {score(w)}: {better[lead]}."
        )
    x, y = a["scores"]["central_mass"], b["scores"]["central_mass"]
    lies = {1: "the CNN's is more central", -1: "the ViT's is more central"}
    sentences.append(
        f"The central quarter holds {share(x)} of the CNN's map and {share(y)} of the ViT's: "
        f"{lies.get(compared(x, y), NONE_SHOWN)}."
    )
    return [*sentences, default_maps(comparison)]


def side_by_side(pair: Values, labels: np.ndarray, class_names: Sequence[str]) -> list[str]:
    """The two images of 2.2 c; `pair` is `side_by_side`, `labels` those of the CNN's heatmaps."""
    kinds = {"agree most": pair["highest_agreement"], "agree least": pair["lowest_agreement"]}
    found = [
        f"The maps {extreme} on test image {image['index']}, "
        f"{class_names[labels[image['row_cnn']]]}: rank correlation {decimal(image['agreement'])}."
        for extreme, image in kinds.items()
        if image
    ]
    if not found:
        return ["No sampled test image is classified correctly and explained by both models."]
    return [" ".join(found), f"The two images were chosen by a fixed rule: {pair['rule']}."]


def _with_verb(names: Sequence[str]) -> str:
    """At the start of a sentence: "A is", "A and B are"."""
    return f"{capital(listed(names))} {'are' if len(names) > 1 else 'is'}"
