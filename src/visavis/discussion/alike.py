"""Do the two models look at the same thing, and what makes two maps differ?"""

from visavis.discussion.numbers import MAPS, Values, compared, count, score, side


def gap(comparison: Values) -> str:
    """Whether two methods or two models make the larger difference between maps."""
    groups = comparison["grid"]["groups"]
    same_model, same_method = groups["same_model"], groups["same_method"]
    if not (same_model and same_method and same_model["excess"] and same_method["excess"]):
        return "Too few pictures have the maps that this comparison needs."
    a, b = same_model["excess"], same_method["excess"]
    larger = compared(a, b)
    verdict = {
        1: "Here the choice of the model changes a map more than the choice of the method",
        -1: "Here the choice of the method changes a map more than the choice of the model",
    }.get(
        larger,
        "That the choice of the model or that of the method changes a map more was not shown",
    )
    so = {
        1: " So what a CNN's Grad-CAM and a ViT's attention do not share is mostly the models'.",
        -1: " So what a CNN's Grad-CAM and a ViT's attention do not share is mostly the methods'.",
    }
    return (
        f"{verdict}: beyond what pictures of a class share, two methods on one model agree by "
        f"{score(a)} (mean of {count(same_model['pairs'])} pairs), two models under one method by "
        f"{score(b)} ({count(same_method['pairs'])} pairs).{so.get(larger, '')}"
    )


def ceiling(comparison: Values) -> str:
    """How well two trainings of one model would agree."""
    seeds = comparison["grid"]["groups"]["other_seed"]
    if not seeds or not seeds["excess"]:
        return (
            "How well two trainings of the same model agree, the ceiling for any such number, was "
            "not measured: it takes a second seed."
        )
    return (
        f"Two trainings of the same model, explained by the same method, agree by "
        f"{score(seeds['excess'])}: more cannot be expected of two different models."
    )


def transfer(crosstest: Values) -> list[str]:
    """How much of its own gain a model keeps with the other's map."""
    main = crosstest["transfer"][0]
    sentences = []
    for tested, other, key, own, foreign in (
        ("ViT", "CNN", "vit_keeps", "vit_method", "cnn_method"),
        ("CNN", "ViT", "cnn_keeps", "cnn_method", "vit_method"),
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
