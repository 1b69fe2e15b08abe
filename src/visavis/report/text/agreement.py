"""Do the two models look at the same thing, and what makes two maps differ?"""

from visavis.metrics.significance import side
from visavis.report.labels import named, the
from visavis.report.text.numbers import Values, count, percent, power, score
from visavis.run_folder import ROLES


def default_maps(comparison: Values) -> str:
    """Whether the default maps of the two models agree beyond what images of a class share."""
    default = comparison["side_by_side"]["second_method"]
    pair = next(p for p in comparison["similarity"]["pairs"] if p["second_method"] == default)
    if pair["above_chance"] is None:
        return "Too few images have both models' maps to measure their agreement."
    verdict = {
        1: "so the models look at partly the same regions",
        -1: "so they agree less than the layout of the class alone implies",
    }.get(side(pair["above_chance"]), "which is not significantly above zero")
    return (
        f"On {count(pair['n'])} images that both models assign to the same class, their default "
        f"maps have a rank correlation of {score(pair['agreement'])}, against "
        f"{score(pair['permutation_baseline'])} with either map taken from another image "
        f"of the class. The agreement above chance is {score(pair['above_chance'])}, {verdict}."
        f"{power(pair['above_chance'])}"
    )


def gap(comparison: Values) -> str:
    """Whether two methods or two models make the larger difference between maps."""
    groups = comparison["grid"]["groups"]
    same_model, same_method = groups["same_model"], groups["same_method"]
    if not (same_model and same_method):
        return "The models share too few methods to compare methods with models."
    if not (same_model["above_chance"] and same_method["above_chance"]):
        return "Too few images have the maps to compare methods with models."
    verdict = {
        1: "Maps differ more between methods than between models",
        -1: "Maps differ more between models than between methods",
    }.get(
        side(comparison["grid"]["gap"]),
        "Maps do not differ significantly more between methods than between models",
    )
    return (
        f"{verdict}: the agreement above chance of two methods on one model is "
        f"{score(same_model['above_chance'])} (mean of {count(same_model['pairs'])} pairs), that "
        f"of two models under one method {score(same_method['above_chance'])} "
        f"({count(same_method['pairs'])} pairs), over the methods that both models share."
        f"{power(comparison['grid']['gap'])}"
    )


def noise_ceiling(comparison: Values) -> str:
    """How well two trainings of the same model agree."""
    ceiling = comparison["grid"]["noise_ceiling"]
    first, second = (the(comparison["labels"][role]) for role in ROLES)
    if ceiling is None:
        return (
            "The noise ceiling, how well two trainings of the same model agree, was not measured: "
            "it needs a second seed (--seeds 2)."
        )
    text = (
        "Over all trainings, on the images to which they all assign the same class, the agreement "
        f"above chance of the two models' default maps is {score(ceiling['models'])}. Between two "
        f"trainings of {first} it is {score(ceiling['first'])}, of {second} "
        f"{score(ceiling['second'])}: this is the noise ceiling."
    )
    relative = ceiling["normalised"]
    if relative is None:
        return f"{text} The agreement relative to the ceiling could not be computed."
    verdict = {
        -1: "they differ more than two trainings of one model",
        1: "they agree more than two trainings of one model",
    }.get(side(relative, 1.0), "not significantly less than two trainings of one model")
    return (
        f"{text} Relative to this ceiling, the agreement of the two models is {score(relative)}: "
        f"{verdict}."
        f"{power(relative, 1.0)}"
    )


def other_seeds(comparison: Values) -> str | None:
    """Test accuracy of the further trainings; None with one seed."""
    parts = []
    for role, label in comparison["labels"].items():
        of = [row for row in comparison["seeds"] if row["model"] == role]
        if len(of) < 2:
            return None
        values = ", ".join(f"{percent(row['accuracy'])} (seed {row['seed']})" for row in of)
        parts.append(f"{label} {values}")
    return (
        f"Each model was trained {len(comparison['seeds']) // 2} times. Test accuracies: "
        f"{'; '.join(parts)}. Everything else in this report except the noise ceiling is from the "
        "first training."
    )


def transfer(cross_model: Values) -> list[str]:
    """How much of its own SRG a model keeps with the other's map."""
    if not cross_model["transfer"]:
        return ["The models agree on too few images to test each with the other's map."]
    default = cross_model["transfer"][0]
    names = {role: the(label) for role, label in cross_model["labels"].items()}
    sentences = []
    for tested, other in (ROLES[::-1], ROLES):
        kept = default[f"{tested}_transfer"]
        own, foreign = (named(default[f"{role}_method"]) for role in (tested, other))
        if kept is None:
            sentences.append(
                f"How much {names[tested]} keeps with {names[other]}'s map could not be "
                f"computed: too few images have both maps, or the SRG of its own, {own}, is not "
                "significantly above 0."
            )
            continue
        verdict = {
            (1, -1): "the other's map helps, but less than its own",
            (1, 0): "not significantly less than with its own",
            (1, 1): "more than with its own",
        }.get((side(kept), side(kept, 1.0)), "no SRG significantly above 0")
        sentences.append(
            f"When cells are masked in the order of {names[other]}'s {foreign} instead of its own "
            f"{own}, {names[tested]} keeps {score(kept)} of its SRG, where 1 is all of it: "
            f"{verdict}.{power(kept, 1.0) or power(kept)}"
        )
    return sentences
