import copy
from typing import Any

import pytest

from visavis.report import labels
from visavis.report.text import agreement, cues, explanations, models, multiple, numbers

NAMES = ("cat", "dog", "ship")


def interval(value: float, half: float = 0.01) -> dict[str, float]:
    return {"value": value, "low": value - half, "high": value + half}


def facts(accuracy: float) -> dict[str, Any]:
    return {
        "parameters": 1_234_567,
        "accuracy": interval(accuracy),
        "f1_macro": interval(accuracy - 0.001),
        "f1_per_class": [0.71, 0.82, 0.93],
        "confusion_matrix": [[70, 20, 10], [13, 87, 0], [0, 1, 99]],
        "epochs": 8,
        "best_epoch": 7,
        "train_seconds": 488.0,
        "images_per_second": 737.7,
        "best_val_accuracy": 0.861,
    }


def facts_of(model: str, srg: float, **changes: Any) -> dict[str, Any]:
    def scores(value: float) -> dict[str, Any]:
        return {
            "srg": interval(value),
            "deletion": interval(0.4 - value / 2),
            "insertion": interval(0.4 + value / 2),
            "contrast": interval(value / 2),
            "central_mass": interval(0.35),
            "class_sensitivity": interval(0.8),
            "relevance_mass": None,
        }

    known = {"centre": 0.2, "edges": 0.12, "rollout": 0.1, "blob": 0.0}

    def ahead(value: float) -> dict[str, Any]:
        return {name: interval(value - other) for name, other in known.items()}

    method = {
        "class_specific": True,
        "degenerate": 0,
        "scores": scores(srg) | changes,
        "srg_ahead_of": ahead(srg),
        "mask_ahead_of": None,
    }
    unaware = {
        "class_specific": False,
        "degenerate": 0,
        "scores": scores(0.1),
        "srg_ahead_of": ahead(0.1),
    }
    return {
        "model": model,
        "n": 500,
        "default_method": "grad_cam" if model == "cnn" else "gradient_attention",
        "methods": (
            {"grad_cam": method}
            if model == "cnn"
            else {"gradient_attention": method, "rollout": unaware}
        ),
        "baselines": {
            "blob": {"scores": scores(0.0)},
            "centre": {"scores": scores(0.2)},
            "edges": {"scores": scores(0.12)},
        },
        "centre_chance": 0.25,
        "mask_chance": None,
    }


@pytest.fixture
def comparison() -> dict[str, Any]:
    return {
        "labels": {"first": "CNN", "second": "ViT"},
        "test_n": 10_000,
        "models": {"first": facts(0.9), "second": facts(0.8)},
        "accuracy_difference": interval(0.1),
        "f1_macro_difference": interval(0.1),
        "mcnemar": {"only_first": 1500, "only_second": 500, "p_value": 1e-9},
        "error_consistency": {"kappa": interval(0.3), "highest": 0.615},
        "same_wrong_class": {"n": 500, "share": interval(0.25), "expected": 0.3},
        "calibration": {
            name: {
                "temperature": 1.3,
                "uncalibrated": {
                    "error": interval(0.04),
                    "confidence": 0.95,
                    "accuracy_minus_confidence": interval(-0.05),
                },
                "temperature_scaled": {"error": interval(0.01), "confidence": 0.9},
            }
            for name in ("first", "second")
        },
        "buckets": {
            "both_correct": {"n": 7500, "similarity": {"above_chance": interval(0.3)}},
            "only_first": {"n": 1500, "similarity": {"above_chance": interval(0.1)}},
            "only_second": {"n": 500, "similarity": {"above_chance": interval(0.3)}},
            "both_wrong_same": {"n": 123, "similarity": {"above_chance": None}},
            "both_wrong_different": {"n": 377, "similarity": {"above_chance": None}},
        },
        "confusion_difference": [[5, -7, 2], [0, 0, 0], [0, 0, 0]],
        "convergence": [
            {
                "val_accuracy": 0.7,
                "first": {"epochs": 1, "seconds": 61.0},
                "second": {"epochs": 6, "seconds": 888.0},
            },
            {"val_accuracy": 0.85, "first": {"epochs": 5, "seconds": 305.0}, "second": None},
        ],
        "similarity": {
            "n": 374,
            "pairs": [
                {
                    "second_method": "gradient_attention",
                    "n": 370,
                    "agreement": interval(0.45),
                    "permutation_baseline": interval(0.13),
                    "above_chance": interval(0.32),
                }
            ],
        },
        "side_by_side": {
            "first_method": "grad_cam",
            "second_method": "gradient_attention",
        },
    }


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.00"),
        (-0.001, "0.00"),
        (-0.125, "−0.12"),
        (0.456, "0.46"),
    ],
)
def test_decimals(value: float, text: str) -> None:
    assert numbers.decimal(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (12.34, "12.3 s"),
        (59.97, "1 min 0 s"),
        (488.0, "8 min 8 s"),
        (3599.6, "1 h 0 min"),
        (3900.0, "1 h 5 min"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert numbers.duration(seconds).replace(numbers.THIN, " ") == text


def test_percent_and_points() -> None:
    assert numbers.share(interval(0.903)) == f"90.3{numbers.THIN}% (89.3 to 91.3)"
    assert numbers.points(interval(-0.05)) == "−5.0 percentage points (−6.0 to −4.0)"
    assert numbers.share(None) == numbers.points(None) == numbers.score(None) == "not available"


def test_an_interval_that_touches_the_reference_is_not_significant() -> None:
    assert numbers.side({"value": 0.1, "low": 0.0, "high": 0.2}) == 0
    assert numbers.side(interval(0.1)) == 1
    assert numbers.side(interval(-0.1)) == -1
    assert numbers.side(None) == 0
    assert numbers.compared(interval(0.3), interval(0.315)) == 0
    assert numbers.compared(interval(0.3), interval(0.35)) == -1
    assert numbers.compared(None, interval(0.35)) == 0


def test_the_interval_for_other_classes_follows_in_brackets() -> None:
    wide = interval(0.5) | {"low_other_classes": 0.25, "high_other_classes": 0.75}
    assert numbers.other_classes(wide) == " [0.25 to 0.75]"
    assert numbers.other_classes(wide, 100, 1) == " [25.0 to 75.0]"
    assert numbers.other_classes(interval(0.5)) == numbers.other_classes(None) == ""


def test_where_no_difference_is_shown_the_detectable_one_is_named(
    comparison: dict[str, Any],
) -> None:
    detectable = f"of 1.4 percentage points would have been detected with 80{numbers.THIN}% power."
    assert detectable not in models.accuracy(comparison)
    comparison["accuracy_difference"] = interval(0.005)  # 1.4 = 2.8 standard errors of 1 / 1.96
    assert detectable in models.accuracy(comparison)
    assert numbers.power(None) == numbers.power(interval(1.0), 0.5) == ""
    assert "A difference of 0.01 " in numbers.power(interval(1.0), 1.0)


def test_what_holms_correction_takes_away_is_named() -> None:
    clear, barely, none = interval(0.1), interval(0.0105), interval(0.0)
    both = multiple.corrected({"A": (clear, 0.0), "B": (barely, 0.0), "C": (None, 0.0)})
    assert "on 2 tests. Of these, 2 are significant on their own" in both
    assert "all remain so after Holm's correction" in both
    three = {"A": (clear, 0.0), "B": (barely, 0.0), "C": (none, 0.0)}
    text = multiple.corrected(three)
    assert (
        "1 of these remain so after Holm's correction for the number of tests, but not B." in text
    )
    assert "0 are significant" in multiple.corrected({"A": (none, 0.0)})
    assert multiple.corrected({"A": (clear, 0.1)}) == multiple.corrected({"A": (none, 0.0)})


@pytest.mark.parametrize(
    ("difference", "expected"),
    [
        (0.1, "The CNN is more accurate"),
        (-0.1, "The ViT is more accurate"),
        (0.005, "The models do not differ significantly"),
    ],
)
def test_accuracy_follows_the_interval(
    comparison: dict[str, Any], difference: float, expected: str
) -> None:
    comparison["accuracy_difference"] = interval(difference)
    assert models.accuracy(comparison).startswith(expected)


def test_a_most_frequent_mistake_is_named_of_which_there_may_be_several() -> None:
    text = models.test_result("CNN", 10_000, facts(0.9), NAMES)
    assert "no error is more frequent than cat predicted as dog, in 20 of the images." in text
    assert "best at ship (F1 0.930) and weakest at cat (F1 0.710)" in text
    perfect = facts(1.0) | {"confusion_matrix": [[100, 0, 0], [0, 100, 0], [0, 0, 100]]}
    assert "error" not in models.test_result("CNN", 300, perfect, NAMES)


def test_the_mistake_that_differs_most_comes_with_both_counts(comparison: dict[str, Any]) -> None:
    comparison["models"]["second"]["confusion_matrix"][0][1] = 27
    text = models.confusions(comparison, NAMES)
    assert "cat is predicted as dog: the CNN 20 times, the ViT 27 times" in text


def test_convergence_names_the_faster_and_what_one_alone_reaches(
    comparison: dict[str, Any],
) -> None:
    text = models.convergence(comparison).replace(numbers.THIN, " ")
    assert "a validation accuracy of 70 %" in text
    assert "the CNN after 1 epoch and 1 min 1 s of training, the ViT after 6 epochs" in text
    assert "the CNN is faster" in text
    assert "Only the CNN reaches 85 %" in text
    comparison["convergence"] = comparison["convergence"][1:]
    alone = models.convergence(comparison).replace(numbers.THIN, " ")
    assert alone == "Only the CNN reaches any of the accuracy thresholds, up to 85 %."
    assert "No model" in models.convergence(comparison | {"convergence": []})


def test_models_that_were_not_trained_here_have_no_convergence(
    comparison: dict[str, Any],
) -> None:
    comparison["labels"]["first"] = "resnet20"
    comparison["models"]["first"]["epochs"] = None
    for row in comparison["convergence"]:
        del row["first"]
    comparison["convergence"] = comparison["convergence"][:1]
    text = models.convergence(comparison).replace(numbers.THIN, " ")
    assert text == (
        "A validation accuracy of 70 % is reached by the ViT after 6 epochs and 14 min 48 s of "
        "training."
    )
    cost = models.cost(comparison)
    assert cost.startswith("resnet20 has 1,234,567 learnable parameters and was not trained here")
    assert "; the ViT has 1,234,567 and trained for" in cost
    assert models.training("resnet20", {}).startswith("resnet20 was not trained here")
    comparison["models"]["second"]["epochs"] = None
    assert models.convergence(comparison) is None


def test_a_name_takes_no_article(comparison: dict[str, Any]) -> None:
    comparison["labels"] = {"first": "resnet20", "second": "timm/vit_tiny"}
    text = " ".join([models.accuracy(comparison), models.overlap(comparison)])
    assert text.startswith("resnet20 is more accurate: resnet20 90.0")
    assert "only resnet20 is correct on 1,500, only timm/vit_tiny on 500" in text
    assert labels.the("CNN", "The") == "The CNN"


def test_a_method_without_a_name_here_has_that_of_the_explanations() -> None:
    assert labels.named("score_cam", {"score_cam": {"label": "Score-CAM"}}) == "Score-CAM"
    assert labels.named("score_cam") == labels.short("score_cam") == "score cam"
    assert labels.short("rollout") == "rollout"


@pytest.mark.parametrize(
    ("srg", "expected"),
    [
        (0.4, "they are meaningful"),
        (0.205, "not significantly more than the image's centre"),
        (0.11, "not significantly more than the image's centre or edges"),
        (0.005, "do not matter significantly more to the CNN than a blob at a random place"),
        (-0.2, "matter less to the CNN than a blob at a random place"),
    ],
)
def test_the_verdict_on_the_maps_needs_blob_centre_and_edges(srg: float, expected: str) -> None:
    verdict = explanations.meaningful(facts_of("cnn", srg), "CNN")[0]
    assert verdict.endswith(f"{expected}.")
    assert ("meaningful" in verdict) == (srg == 0.4)


def test_a_faithful_map_beside_the_known_truth_is_not_called_meaningful() -> None:
    values = facts_of("cnn", 0.4)
    values["methods"]["grad_cam"]["mask_ahead_of"] = {"chance": interval(0.0)}
    verdict = explanations.meaningful(values, "CNN")[0]
    assert verdict.endswith("match the ground-truth mask significantly better than chance.")
    assert "meaningful" not in verdict
    values["methods"]["grad_cam"]["mask_ahead_of"] = {"chance": interval(0.24)}
    assert "meaningful" in explanations.meaningful(values, "CNN")[0]


def test_a_map_that_the_runner_ups_equals_is_not_called_meaningful() -> None:
    values = facts_of("cnn", 0.4, contrast=interval(0.005))
    verdict, _, contrast, *_ = explanations.meaningful(values, "CNN")
    assert "not shown to be evidence for the predicted class" in verdict
    assert "meaningful" not in verdict
    assert contrast.endswith("not significantly about its class.")


def test_without_an_srg_there_is_no_verdict() -> None:
    values = facts_of("cnn", 0.4, contrast=None, class_sensitivity=None)
    values["methods"]["grad_cam"]["scores"]["srg"] = None
    sentences = explanations.meaningful(values, "CNN")
    assert "faithfulness is unknown" in sentences[0]
    assert not any(s.startswith(("Symmetric", "Contrast", "Class")) for s in sentences)


def test_shares_are_compared_with_chance() -> None:
    values = facts_of("cnn", 0.4, relevance_mass=interval(0.3), central_mass=interval(0.2))
    values["mask_chance"] = interval(0.16)
    values["methods"]["grad_cam"]["mask_ahead_of"] = {"chance": interval(0.14)}
    text = " ".join(explanations.meaningful(values, "CNN"))
    assert "more than chance" in text
    assert "biased away from the centre" in text
    values["methods"]["grad_cam"]["scores"] |= {
        "relevance_mass": interval(0.17),
        "central_mass": interval(0.255),
    }
    values["methods"]["grad_cam"]["mask_ahead_of"] = {"chance": interval(0.01)}
    text = " ".join(explanations.meaningful(values, "CNN"))
    assert "not significantly different from chance" in text
    assert "no significant bias" in text


def test_degenerate_maps_are_counted() -> None:
    values = facts_of("cnn", 0.4)
    values["methods"]["grad_cam"]["degenerate"] = 12
    assert "every score: 12 of the 500 maps" in explanations.meaningful(values, "CNN")[-1]


def test_the_best_of_the_vits_maps_beats_only_what_it_was_shown_to_beat() -> None:
    values = facts_of("vit", 0.4)
    assert "has the highest SRG, 0.40" in explanations.methods_compared(values, "ViT")
    assert "It is significantly above attention rollout, 0.10" in explanations.methods_compared(
        values, "ViT"
    )
    best = values["methods"]["gradient_attention"]
    best["srg_ahead_of"]["rollout"] = interval(0.005)
    assert "It is not significantly above attention rollout" in explanations.methods_compared(
        values, "ViT"
    )
    assert "is significantly above" not in explanations.methods_compared(values, "ViT")


def test_maps_that_the_centre_alone_beats_are_named() -> None:
    values = facts_of("vit", 0.4)
    text = explanations.methods_compared(values, "ViT")
    assert text.endswith(
        "Attention rollout is significantly below the centre map, 0.20 (0.19 to 0.21)."
    )


@pytest.mark.parametrize("vit", [0.2, 0.9])
def test_no_sentence_says_that_one_models_map_is_more_faithful(
    comparison: dict[str, Any], vit: float
) -> None:
    explained = {"first": facts_of("cnn", 0.4), "second": facts_of("vit", vit)}
    sentence = explanations.more_central(explained, comparison)
    assert "SRG" not in sentence and "faithful" not in sentence
    assert sentence.endswith("no significant difference.")


@pytest.mark.parametrize(
    ("above_chance", "expected"),
    [
        (0.3, "partly the same regions"),
        (0.005, "not significantly above zero"),
        (-0.3, "less than the layout of the class"),
    ],
)
def test_agreement_must_be_above_chance(
    comparison: dict[str, Any], above_chance: float, expected: str
) -> None:
    comparison["similarity"]["pairs"][0]["above_chance"] = interval(above_chance)
    assert expected in agreement.default_maps(comparison)


def test_too_few_common_images_give_no_similarity(comparison: dict[str, Any]) -> None:
    comparison["similarity"]["pairs"][0] |= {
        "agreement": None,
        "permutation_baseline": None,
        "above_chance": None,
    }
    assert agreement.default_maps(comparison).startswith("Too few")


def test_mistakes_follow_the_intervals() -> None:
    values = {
        "correct_confidence": interval(0.9),
        "incorrect_confidence": interval(0.6),
        "same_place": {
            "n": 50,
            "agreement": interval(0.4),
            "permutation_baseline": interval(0.1),
            "above_chance": interval(0.3),
        },
    }
    text = explanations.mistakes("ViT", values)
    assert text.startswith("The ViT is less confident when it is wrong")
    assert "partly the same regions" in text
    values["same_place"]["above_chance"] = interval(0.005)
    assert "not significantly above a shared layout" in explanations.mistakes("ViT", values)
    values |= {
        "incorrect_confidence": interval(0.905),
        "same_place": {"n": 3, "above_chance": None},
    }
    text = explanations.mistakes("ViT", values)
    assert text.startswith("The ViT is not significantly less confident")
    assert "rank correlation" not in text


@pytest.mark.parametrize(
    ("kappa", "expected"),
    [
        (0.3, "more often than chance"),
        (0.005, "not significantly"),
        (-0.2, "less often than chance"),
    ],
)
def test_consistency_follows_the_interval(
    comparison: dict[str, Any], kappa: float, expected: str
) -> None:
    comparison["error_consistency"]["kappa"] = interval(kappa)
    text = models.consistency(comparison)
    assert expected in text
    assert "less often than independent errors" in text


def test_an_interval_without_a_width_says_nothing_of_power() -> None:
    assert numbers.power({"value": 0.0, "low": 0.0, "high": 0.0}, points=True) == ""
    assert "detected with" in numbers.power({"value": 0.0, "low": -0.01, "high": 0.01})


def test_models_that_make_no_mistakes_have_no_consistency(comparison: dict[str, Any]) -> None:
    comparison["error_consistency"] = {"kappa": None, "highest": None}
    comparison["same_wrong_class"] = {"n": 0, "share": None, "expected": None}
    assert models.consistency(comparison).startswith("The models make too few errors")


@pytest.mark.parametrize(
    ("gap", "expected"),
    [
        (-0.05, "overconfident"),
        (-0.005, "not shown to be"),
        (0.1, "underconfident"),
    ],
)
def test_calibration_follows_the_interval_of_accuracy_minus_confidence(
    comparison: dict[str, Any], gap: float, expected: str
) -> None:
    own = comparison["calibration"]["first"]["uncalibrated"]
    own["accuracy_minus_confidence"] = interval(gap)
    assert f"The CNN is {expected}" in models.calibration(comparison)


def test_buckets_are_compared_with_both_correct(
    comparison: dict[str, Any],
) -> None:
    text = models.buckets(comparison)
    assert "Only the CNN correct: 0.10 (0.09 to 0.11), less than that." in text
    assert "Only the ViT correct: 0.30 (0.29 to 0.31), no significant difference." in text
    assert "Both wrong" not in text
    comparison["buckets"]["both_correct"]["similarity"]["above_chance"] = None
    assert models.buckets(comparison).startswith("Too few")


def cue_rows(**kept: tuple[float, float]) -> dict[str, Any]:
    """What the first and the second model keep on images that are so."""
    return {
        "rows": [
            {
                "label": label,
                "kept": {"first": interval(a), "second": interval(b)},
                "kept_difference": interval(a - b),
            }
            for label, (a, b) in kept.items()
        ]
    }


def test_what_a_model_keeps_without_a_cue_follows_the_intervals(
    comparison: dict[str, Any],
) -> None:
    comparison["cues"] = cue_rows(blurred=(0.9, 0.5), grey=(0.8, 0.7), odd=(0.1, 0.105))
    assert cues.between_models(comparison) == (
        "With one cue removed at a time, the CNN keeps a larger share of its accuracy than the ViT "
        "on blurred and grey images; on odd images, no significant difference was found."
    )
    comparison["cues"] = cue_rows(blurred=(0.5, 0.9))
    assert cues.between_models(comparison) == (
        "With one cue removed at a time, the ViT keeps a larger share of its accuracy than the CNN "
        "on blurred images."
    )


def test_of_a_model_at_chance_nothing_is_said_to_be_kept(comparison: dict[str, Any]) -> None:
    comparison["cues"] = cue_rows(blurred=(0.9, 0.5), grey=(0.8, 0.7))
    comparison["cues"]["rows"][1]["kept"]["second"] = None
    comparison["cues"]["rows"][1]["kept_difference"] = None
    assert "without a cue could not be compared" in cues.between_models(comparison)


def test_swapping_the_models_swaps_the_findings(comparison: dict[str, Any]) -> None:
    def swapped(text: str) -> str:
        return text.replace("CNN", "?").replace("ViT", "CNN").replace("?", "ViT")

    other = copy.deepcopy(comparison)
    other["models"] = dict(zip(other["models"], reversed(other["models"].values()), strict=True))
    other["accuracy_difference"] = interval(-0.1)
    for row in other["convergence"]:
        row["first"], row["second"] = row["second"], row["first"]
    assert (
        swapped(models.accuracy(other)).split(":")[0] == models.accuracy(comparison).split(":")[0]
    )
    faster = "the CNN is faster"
    assert faster in models.convergence(comparison)
    assert faster in swapped(models.convergence(other))
