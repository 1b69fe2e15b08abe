"""What the explanations are worth (1.3, 2.2), and whether those of the two models agree."""

from collections.abc import Mapping, Sequence

from visavis.report.text.numbers import (
    MAPS,
    NAMES,
    NONE_SHOWN,
    Values,
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
    values, baselines = explanations["methods"][method], explanations["baselines"]
    label, scores = MAPS[method], values["scores"]
    model = NAMES[explanations["model"]]
    deletion = scores["deletion"]
    unbeaten = [key for key in ("centre", "edges") if side(values["deletion_ahead_of"][key]) < 1]
    mask = scores["relevance_mass"]
    if deletion is None:
        verdict = f"For {label} no deletion score could be taken, so nothing was shown."
    elif side(deletion) < 0:
        verdict = f"The {model} depends on what {label} highlights less than on random places."
    elif side(deletion) == 0:
        verdict = (
            f"That the {model} depends on what {label} highlights more than on random places was "
            "not shown."
        )
    elif unbeaten:
        verdict = (
            f"The {model} depends on what {label} highlights more than on random places, but that "
            f"it is a better guide than the image's {' or '.join(unbeaten)} was not shown."
        )
    else:
        verdict = (
            f"The {model} depends on what {label} highlights more than on random places, on the "
            "image's centre or on its edges"
        )
        if mask is not None and compared(mask, explanations["mask_chance"]) < 1:
            verdict += ", but that these are the pixels that decide the class was not shown."
        else:
            verdict += ": by this measure the highlighted regions are meaningful."
    sentences = [verdict, *_faithfulness(scores, baselines), *_places(scores, explanations)]
    if values["degenerate"]:
        sentences.append(
            f"{count(values['degenerate'])} of the {count(explanations['n'])} maps held no evidence"
            " "
            "(flat or not finite); they are in no score."
        )
    return sentences


def _faithfulness(scores: Values, baselines: Values) -> list[str]:
    acts = {
        "deletion": "Deletion: blanking the highest cells first changes the answer",
        "insertion": "Insertion: showing only the highest cells first restores the answer",
    }
    sentences = []
    for key, act in acts.items():
        if (value := scores[key]) is None:
            continue
        effect = {1: "sooner than a random order", -1: "later than a random order"}
        rest = " and ".join(
            f"{MAPS[name]} {score(baselines[name]['scores'][key])}" for name in ("centre", "edges")
        )
        sentences.append(
            f"{act} {effect.get(side(value), 'no sooner than a random order, as far as was shown')}"
            f", with a score of {score(value)}, where 0 is random and 1 the model's own best "
            f"single cells; {rest}."
        )
    return sentences


def _places(scores: Values, explanations: Values) -> list[str]:
    """Where the map lies, and whether it depends on the class."""
    sentences = []
    mask, chance = scores["relevance_mass"], explanations["mask_chance"]
    if mask is not None and chance is not None:
        hit = {1: "more than chance", -1: "less than chance"}
        sentences.append(
            f"Place: {share(mask)} of the map lies on the pixels that decide the class, which "
            f"cover {share(chance)} of the image: "
            f"{hit.get(compared(mask, chance), 'no difference from chance was shown')}."
        )
    centre, even = scores["central_mass"], explanations["centre_chance"]
    if centre is not None:
        lean = {1: "it leans to the centre", -1: "it leans away from the centre"}
        sentences.append(
            f"Centre: {share(centre)} of the map lies in the image's central quarter, where an "
            f"even map has {percent(even)}: {lean.get(side(centre, even), 'no leaning was shown')}."
        )
    if (sensitivity := scores["class_sensitivity"]) is not None:
        sentences.append(
            f"Class sensitivity: {score(sensitivity)}, where 0 is the same map for every class and "
            "1 an unrelated one."
        )
    return sentences


def mistakes(model: str, facts: Values) -> str:
    """How sure a model is of its mistakes, and whether it then looks elsewhere.

    `facts` is the model's part of comparison.json's `mistakes`.
    """
    right, wrong, place = (
        facts["correct_confidence"],
        facts["incorrect_confidence"],
        facts["same_place"],
    )
    sure = {1: "is less sure when it is wrong", -1: "is more sure when it is wrong"}
    text = (
        f"The {NAMES[model]} {sure[compared(right, wrong)]}"
        if compared(right, wrong)
        else f"That the {NAMES[model]} is less sure when it is wrong was not shown"
    )
    text += f": its mean confidence is {share(right)} when right and {share(wrong)} when wrong."
    if place["above_chance"] is None:
        return (
            f"{text} Too few of the sampled images that it gets wrong have both maps to say "
            "where it then looks."
        )
    found = {
        1: "it reads the wrong class from partly the same places of the image",
        -1: "it reads the wrong class from other places than those of the true one",
    }
    return (
        f"{text} On {count(place['n'])} sampled images that it gets wrong, its maps for the "
        "class that it named and for the true class have a rank correlation of "
        f"{score(place['agreement'])}, against {score(place['floor'])} with the map of another "
        "image that it took for the same class: "
        f"{found.get(side(place['excess']), 'no relation beyond a shared layout was shown')}."
    )


def agnostic(explanations: Values) -> str:
    """Which maps know no class."""
    methods = explanations["methods"]
    unaware = [MAPS[key] for key, method in methods.items() if not method["class_specific"]]
    aware = [MAPS[key] for key, method in methods.items() if method["class_specific"]]
    return (
        f"{_with_verb(unaware)} class-agnostic: one map per image, whichever class is asked "
        "about, so it shows what the model reads, not why it chose this class. "
        f"{_with_verb(aware)} made for the predicted class."
    )


def attention_methods(explanations: Values) -> str:
    """Which of the ViT's own maps is the most faithful."""
    known = {
        key: method["scores"]["deletion"]
        for key, method in explanations["methods"].items()
        if method["scores"]["deletion"] is not None and key != "occlusion"  # the oracle, nearly
    }
    if not known:
        return "For none of the ViT's maps could a deletion score be taken."
    best = max(known, key=lambda key: known[key]["value"])
    leads = {
        key: explanations["methods"][best]["deletion_ahead_of"][key] for key in known if key != best
    }
    told = {key: f"{MAPS[key]}, {score(known[key])}" for key in known}
    shown = [told[key] for key, lead in leads.items() if side(lead) == 1]
    rest = [told[key] for key, lead in leads.items() if side(lead) != 1]
    centre = explanations["baselines"]["centre"]["scores"]["deletion"]
    below = [
        MAPS[key]
        for key in known
        if side(explanations["methods"][key]["deletion_ahead_of"]["centre"]) == -1
    ]
    text = (
        f"Among the ViT's maps {MAPS[best]} has the highest deletion score, {score(known[best])}."
    )
    if shown:
        text += f" That is above {'; '.join(shown)}."
    if rest:
        text += f" No difference was shown to {'; '.join(rest)}."
    if below:
        text += f" {_with_verb(below)} a worse guide than the image's centre, {score(centre)}."
    return text


def between_models(cnn: Values, vit: Values, comparison: Values) -> list[str]:
    """How the CNN's map and the ViT's class-specific map differ, in worth and in place."""
    pair = comparison["side_by_side"]
    a = cnn["methods"][pair["cnn_method"]]
    b = vit["methods"][pair["vit_method"]]
    sentences = []
    for key, raw in (("deletion", "deletion_drop"), ("insertion", "insertion_gain")):
        x, y = a["scores"][key], b["scores"][key]
        if x is None or y is None:
            continue
        u, w = a["scores"][raw], b["scores"][raw]
        # Each oracle belongs to one model, so a lead that only its scale makes is none.
        lead = compared(x, y) if compared(x, y) == compared(u, w) else 0
        better = {1: "the CNN's map is more faithful", -1: "the ViT's map is more faithful"}
        neither = "that one is more faithful on both scales was not shown"
        sentences.append(
            f"Normalised {key} of the CNN's {MAPS[pair['cnn_method']]} is {score(x)}, of the ViT's "
            f"{MAPS[pair['vit_method']]} {score(y)}; not normalised, {score(u)} and {score(w)} of "
            f"probability: {better.get(lead, neither)}."
        )
    x, y = a["scores"]["central_mass"], b["scores"]["central_mass"]
    lies = {1: "the CNN's lies more in the centre", -1: "the ViT's lies more in the centre"}
    sentences.append(
        f"In the central quarter lie {share(x)} of the CNN's map and {share(y)} of the ViT's: "
        f"{lies.get(compared(x, y), NONE_SHOWN)}."
    )
    return [*sentences, look_alike(comparison)]


def side_by_side(pair: Values, names: Mapping[str, str]) -> list[str]:
    """The two images of 2.2 c, `names` giving the class of each; `pair` is `side_by_side`."""
    kinds = {"highest_agreement": "agree most", "lowest_agreement": "agree least"}
    found = [
        f"The maps {said} on test image {pair[kind]['index']}, {names[kind]}: rank correlation "
        f"{decimal(pair[kind]['agreement'])}."
        for kind, said in kinds.items()
        if pair[kind]
    ]
    if not found:
        return ["There is no sampled test image that both models get right and both explain."]
    return [" ".join(found), f"They were chosen by rule: {pair['rule']}."]


def look_alike(comparison: Values) -> str:
    """Do the two models look at the same places of a image?"""
    main = comparison["side_by_side"]
    pair = next(
        (p for p in comparison["similarity"]["pairs"] if p["vit_method"] == main["vit_method"]),
        None,
    )
    if pair is None or pair["above_chance"] is None:
        return "Too few images have both models' maps for their agreement to be measured."
    verdict = {
        1: "so they look at partly the same places of the image itself",
        -1: "so they look at the same places less than the class's layout would make them",
    }.get(
        side(pair["above_chance"]),
        "so agreement beyond the layout that a class shares was not shown",
    )
    return (
        f"On {count(pair['n'])} images that both models put in the same class, the two maps have "
        f"a rank correlation of {score(pair['agreement'])}; with the ViT's map taken from another "
        f"image of the class it is {score(pair['floor'])}. The excess is "
        f"{score(pair['excess'])}, {verdict}."
    )


def _with_verb(names: Sequence[str]) -> str:
    """At the start of a sentence: "A is", "A and B are"."""
    return f"{capital(listed(names))} {'are' if len(names) > 1 else 'is'}"
