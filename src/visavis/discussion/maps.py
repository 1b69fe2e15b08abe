"""What the explanations are worth (1.3, 2.2), and whether those of the two models agree."""

from collections.abc import Sequence

from visavis.discussion.numbers import (
    NAMES,
    NONE_SHOWN,
    Values,
    compared,
    count,
    percent,
    score,
    share,
    side,
)


def layer_choice(sweep: Values) -> str:
    """Whether the chosen layer's maps were shown to be better than those of the others."""
    chosen = next(row for row in sweep["rows"] if row["chosen"])
    text = (
        f"Its normalised deletion score is {score(chosen['deletion'])}, measured on "
        f"{count(sweep['n'])} {sweep['split']} pictures"
    )
    others = [
        f"{verdict} {row['layer']}, {score(row['deletion'])}"
        for row in sweep["rows"]
        if row is not chosen
        for verdict in [_ranked(compared(chosen["deletion"], row["deletion"]))]
    ]
    return text + (": " + "; ".join(others) if others else "") + "."


def meaningful(explanations: Values, method: str) -> list[str]:
    """Are the highlighted regions meaningful? A verdict, then each number behind it."""
    values, baselines = explanations["methods"][method], explanations["baselines"]
    label, scores = values["label"], values["scores"]
    model = NAMES[explanations["model"]]
    deletion = scores["deletion"]
    simple = {key: baselines[key] for key in ("centre", "edges")}
    unbeaten = [
        row["label"].lower()
        for row in simple.values()
        if compared(deletion, row["scores"]["deletion"]) < 1
    ]
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
            f"it is a better guide than {' or '.join(unbeaten)} was not shown."
        )
    else:
        verdict = (
            f"The {model} depends on what {label} highlights more than on random places, on the "
            "picture's centre or on its edges: so far the highlighted regions are meaningful."
        )
    sentences = [verdict, *_faithfulness(label, scores, baselines, count(explanations["n"]))]
    sentences += _places(scores, explanations)
    if values["refused"]:
        sentences.append(
            f"{count(values['refused'])} maps held no evidence (flat or not finite); they are in "
            "no score."
        )
    return sentences


def _faithfulness(label: str, scores: Values, baselines: Values, n: str) -> list[str]:
    sentences = []
    for key, act in (("deletion", "Blanking"), ("insertion", "Showing only")):
        value = scores[key]
        if value is None:
            continue
        effect = {1: "changes the answer more than", -1: "changes the answer less than"}.get(
            side(value), "was not shown to change the answer more than"
        )
        rest = ", ".join(
            f"{baselines[b]['label'].lower()} {score(baselines[b]['scores'][key])}"
            for b in ("centre", "edges")
        )
        sentences.append(
            f"{act} the cells that {label} ranks highest {effect} doing so in random order: "
            f"normalised {key} score {score(value)} on {n} pictures, where random order gives 0; "
            f"for comparison {rest}."
        )
    return sentences


def _places(scores: Values, explanations: Values) -> list[str]:
    """Where the map lies, and whether it depends on the class."""
    sentences = []
    centre, even = scores["centre_share"], explanations["centre_chance"]
    lean = {1: "it leans to the centre", -1: "it leans away from the centre"}.get(
        side(centre, even), "no leaning was shown"
    )
    sentences.append(
        f"{share(centre)} of the map lies in the picture's central quarter, where an even map has "
        f"{percent(even)}: {lean}."
    )
    mask, chance = scores["mask_share"], explanations["mask_chance"]
    if mask is not None and chance is not None:
        hit = {1: "more than chance", -1: "less than chance"}.get(
            compared(mask, chance), "no difference from chance was shown"
        )
        sentences.append(
            f"{share(mask)} of the map lies on the pixels that decide the class, which cover "
            f"{share(chance)} of the picture: {hit}."
        )
    if (sensitivity := scores["class_sensitivity"]) is not None:
        sentences.append(
            f"Asked about another class, it gives another map: class sensitivity "
            f"{score(sensitivity)}, where 0 is the same map for every class and 1 an unrelated one."
            if side(sensitivity) > 0
            else f"That the map depends on the class was not shown: class sensitivity "
            f"{score(sensitivity)}."
        )
    return sentences


def attention_methods(explanations: Values) -> list[str]:
    """How the ViT's own maps differ among themselves."""
    methods = explanations["methods"]
    agnostic = [m["label"] for m in methods.values() if not m["class_specific"]]
    specific = [m["label"] for m in methods.values() if m["class_specific"]]
    sentences = [
        f"{_listed(agnostic)} are class-agnostic: one map per picture, whichever class is asked "
        f"about, so they show what the model reads, not why it chose this class. "
        f"{_listed(specific)} are made for the predicted class."
    ]
    known = {
        key: m["scores"]["deletion"]
        for key, m in methods.items()
        if m["scores"]["deletion"] is not None
    }
    if len(known) > 1:
        best = max(known, key=lambda key: known[key]["value"])
        rest = [
            f"{methods[key]['label']} {score(value)} ({_ranked(compared(known[best], value))} it)"
            for key, value in known.items()
            if key != best
        ]
        sentences.append(
            f"By deletion the most faithful of them is {methods[best]['label']} with "
            f"{score(known[best])}; {'; '.join(rest)}."
        )
    return sentences


def between_models(cnn: Values, vit: Values, comparison: Values) -> list[str]:
    """How the CNN's map and the ViT's class-specific map differ, in worth and in place."""
    pair = comparison["face_to_face"]
    a = cnn["methods"][pair["cnn_method"]]
    b = vit["methods"][pair["vit_method"]]
    sentences = []
    for key in ("deletion", "insertion"):
        x, y = a["scores"][key], b["scores"][key]
        if x is None or y is None:
            continue
        better = {1: "the CNN's map is more faithful", -1: "the ViT's map is more faithful"}
        sentences.append(
            f"Normalised {key}: CNN, {a['label']} {score(x)}; ViT, {b['label']} {score(y)}: "
            f"{better.get(compared(x, y), NONE_SHOWN)}."
        )
    x, y = a["scores"]["centre_share"], b["scores"]["centre_share"]
    lies = {1: "the CNN's lies more in the centre", -1: "the ViT's lies more in the centre"}
    sentences.append(
        f"Share of the map in the central quarter: CNN {share(x)}, ViT {share(y)}: "
        f"{lies.get(compared(x, y), NONE_SHOWN)}."
    )
    return [*sentences, look_alike(comparison)]


def look_alike(comparison: Values) -> str:
    """Do the two models look at the same places of a picture?"""
    main = comparison["face_to_face"]
    pair = next(
        (p for p in comparison["similarity"]["pairs"] if p["vit_method"] == main["vit_method"]),
        None,
    )
    if pair is None or pair["excess"] is None:
        return "Too few pictures have both models' maps for their agreement to be measured."
    verdict = {
        1: "so they look at partly the same places of the picture itself",
        -1: "so they look at the same places less than the class's layout would make them",
    }.get(side(pair["excess"]), "so agreement beyond the layout that a class shares was not shown")
    return (
        f"On {count(pair['n'])} pictures that both models put in the same class, the two maps have "
        f"a rank correlation of {score(pair['agreement'])}; with the ViT's map taken from another "
        f"picture of the class it is {score(pair['floor'])}. The excess is "
        f"{score(pair['excess'])}, {verdict}."
    )


def _ranked(order: int) -> str:
    return {1: "above", -1: "below"}.get(order, "no difference shown to")


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
