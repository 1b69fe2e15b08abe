"""Do the two models look at the same thing, and what makes two maps differ?"""

from visavis.report.text.numbers import MAPS, NAMES, Values, count, percent, score, side


def gap(comparison: Values) -> str:
    """Whether two methods or two models make the larger difference between maps."""
    groups = comparison["grid"]["groups"]
    same_model, same_method = groups["same_model"], groups["same_method"]
    if not (
        same_model and same_method and same_model["above_chance"] and same_method["above_chance"]
    ):
        return "Too few images have the maps that this comparison needs."
    verdict = {
        1: "Here the choice of the method changes a map more than the choice of the model",
        -1: "Here the choice of the model changes a map more than the choice of the method",
    }.get(
        side(comparison["grid"]["gap"]),
        "That the choice of the model or that of the method changes a map more was not shown",
    )
    return (
        f"{verdict}: beyond what images of a class share, two methods on one model agree by "
        f"{score(same_model['excess'])} (mean of {count(same_model['pairs'])} pairs), two models "
        f"under one method by {score(same_method['excess'])} ({count(same_method['pairs'])} "
        "pairs), over the methods that both models have."
    )


def ceiling(comparison: Values) -> str:
    """How well two trainings of one model would agree."""
    ceiling = comparison["grid"]["noise_ceiling"]
    if ceiling is None:
        return (
            "How well two trainings of the same model agree, the ceiling for any such number, was "
            "not measured: it takes a second seed (--seeds 2)."
        )
    text = (
        f"Beyond what images of a class share, the main maps of the two models agree by "
        f"{score(ceiling['models'])}; those of two trainings of the CNN by "
        f"{score(ceiling['cnn'])}, of the ViT by {score(ceiling['vit'])}: more cannot "
        "be expected of two models."
    )
    whole = ceiling["normalised"]
    if whole is None:
        return f"{text} What share of this ceiling the two models reach could not be told."
    verdict = {
        -1: "they differ by more than another training does",
        1: "more than two trainings of one model",
    }.get(side(whole, 1.0), "that they differ more than two trainings do was not shown")
    return f"{text} Of this ceiling the two models reach {score(whole)}: {verdict}."


def other_seeds(comparison: Values) -> str | None:
    """Test accuracy of the further trainings; None with one seed."""
    told = []
    for name, label in NAMES.items():
        of = [row for row in comparison["seeds"] if row["model"] == name]
        if len(of) < 2:
            return None
        values = ", ".join(f"{percent(row['accuracy'])} (seed {row['seed']})" for row in of)
        told.append(f"the {label} {values}")
    return (
        f"Each model was trained {len(comparison['seeds']) // 2} times. Right on the test images "
        f"were {'; '.join(told)}. All else in this report but "
        "the ceiling of agreement is of the first."
    )


def transfer(cross_model: Values) -> list[str]:
    """How much of its own gain a model keeps with the other's map."""
    if not cross_model["transfer"]:
        return ["The models agree on too few images for each to be tested with the other's map."]
    main = cross_model["transfer"][0]
    sentences = []
    for tested, other, key, own, foreign in (
        ("ViT", "CNN", "vit_transfer", "vit_method", "cnn_method"),
        ("CNN", "ViT", "cnn_transfer", "cnn_method", "vit_method"),
    ):
        kept = main[key]
        if kept is None:
            sentences.append(
                f"How much the {tested} keeps with the {other}'s map could not be told: its own "
                f"map, {MAPS[main[own]]}, gains too little over a random order."
            )
            continue
        verdict = {
            (1, -1): "part of it: the other's map helps, and less than its own",
            (1, 0): "it was not shown to lose any of it",
            (1, 1): "even more than with its own",
        }.get(
            (side(kept), side(kept, 1.0)),
            "no gain over a random order was shown",
        )
        sentences.append(
            f"Removing cells by the {other}'s {MAPS[main[foreign]]} in place of its own "
            f"{MAPS[main[own]]}, the {tested} keeps {score(kept)} of its gain over random orders, "
            f"where 1 is all of it: {verdict}."
        )
    return sentences
