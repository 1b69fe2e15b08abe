"""Sentences from numbers. What they say follows the intervals, never an expectation.

A difference is stated only where its 95 % interval leaves out zero or, where it was not taken as a
difference, where the two intervals do not touch, which is stricter than a test of their difference.
Otherwise the sentence says that none was shown.
"""

from visavis.report.text import agreement, explanations, models, numbers, trust
from visavis.report.text.numbers import Values


def findings(
    cnn: Values, vit: Values, comparison: Values, cross_model: Values, *, same_machine: bool = True
) -> list[str]:
    """The report in a few sentences; `cnn` and `vit` are their explanations.json."""
    worth = [explanations.meaningful(values, values["default_method"])[0] for values in (cnn, vit)]
    return [
        models.accuracy(comparison),
        models.cost(comparison),
        models.convergence(comparison["convergence"], same_machine=same_machine),
        " ".join(worth),
        " ".join(trust.trusted(values, cross_model) for values in (cnn, vit)),
        explanations.look_alike(comparison),
        agreement.gap(comparison),
    ]


__all__ = ["alike", "findings", "maps", "models", "numbers", "trust"]
