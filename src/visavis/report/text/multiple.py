"""Which of the tests behind the sentences remain significant, given how many there are."""

from collections.abc import Mapping

from visavis.metrics.significance import holm, p_value
from visavis.report.labels import named, the
from visavis.report.text.numbers import Interval, Values, count, listed
from visavis.run_folder import ROLES

Tests = dict[str, tuple[Interval | None, float]]
"""By what is tested: the number with its interval, and the reference."""


def tests(explained: Mapping[str, Values], comparison: Values, cross_model: Values) -> Tests:
    """The tests of the sentences, of maps those of the default ones, all in one family.

    One family for the whole report: a sentence may stand in several of its sections, and must say
    the same in each.
    """
    names = {role: the(label) for role, label in comparison["labels"].items()}
    consistency, same = comparison["error_consistency"], comparison["same_wrong_class"]
    halves = cross_model["composites"]["halves"]
    default = comparison["side_by_side"]["second_method"]
    pair = next(p for p in comparison["similarity"]["pairs"] if p["second_method"] == default)
    found: Tests = {
        "the difference in accuracy": (comparison["accuracy_difference"], 0.0),
        "the difference in macro F1": (comparison["f1_macro_difference"], 0.0),
        "error consistency": (consistency["kappa"], 0.0),
        "the same wrong predictions": (same["share"], same["expected"] or 0.0),
        "the agreement of the default maps": (pair["above_chance"], 0.0),
        "methods against models": (comparison["grid"]["gap"], 0.0),
    }
    if (ceiling := comparison["grid"]["noise_ceiling"]) is not None:
        found["agreement against the noise ceiling"] = (ceiling["normalised"], 1.0)
    for row in comparison["cues"]["rows"]:
        found[f"what both keep on {row['label']} images"] = (row["kept_difference"], 0.0)
    for role, other in (ROLES, ROLES[::-1]):
        main = explained[role]["methods"][explained[role]["default_method"]]
        for key in ("blob", "centre", "edges"):
            found[f"{names[role]}'s map against {named(key)}"] = (main["srg_ahead_of"][key], 0.0)
        found[f"the contrast of {names[role]}'s map"] = (main["scores"]["contrast"], 0.0)
        if main["mask_ahead_of"] is not None:
            found[f"{names[role]}'s map on the mask"] = (main["mask_ahead_of"]["chance"], 0.0)
        centre = main["scores"]["central_mass"], explained[role]["centre_chance"]
        found[f"how central {names[role]}'s map is"] = centre
        gap = comparison["calibration"][role]["uncalibrated"]["accuracy_minus_confidence"]
        found[f"the calibration of {names[role]}"] = (gap, 0.0)
        place = comparison["mistakes"][role]["same_place"]["above_chance"]
        found[f"where {names[role]} looks when it is wrong"] = (place, 0.0)
        energy = halves["methods"][role][cross_model["default_methods"][role]]["energy"]
        found[f"{names[role]}'s map on composites"] = (energy, halves["chance"])
        kept = cross_model["transfer"][0][f"{role}_transfer"] if cross_model["transfer"] else None
        found[f"{names[role]} with {names[other]}'s map, against none"] = (kept, 0.0)
        found[f"{names[role]} with {names[other]}'s map, against its own"] = (kept, 1.0)
    return found


def corrected(tests: Tests) -> str:
    """How many of `tests` remain significant after Holm's correction, and which do not."""
    alone = {name: p_value(of, at) for name, (of, at) in tests.items() if of is not None}
    significant = [name for name, p in alone.items() if p < 0.05]
    together = dict(zip(alone, holm(list(alone.values())), strict=True))
    lost = [name for name in significant if together[name] >= 0.05]
    text = (
        "The main sentences on accuracy, errors, cues and the default maps rest on "
        f"{count(len(alone))} tests. Of these, {count(len(significant))} "
        f"{'is' if len(significant) == 1 else 'are'} significant on their own at the 5 % level"
    )
    if not significant:
        return f"{text}."
    if not lost:
        rest = "it remains" if len(significant) == 1 else "all remain"
        return f"{text}, and {rest} so after Holm's correction for the number of tests."
    return (
        f"{text}; {count(len(significant) - len(lost))} of these remain so after Holm's correction "
        f"for the number of tests, but not {listed(lost)}."
    )
