"""Sentences from numbers: they follow the intervals, never an expectation.

A difference is called significant only where its 95 % interval excludes zero or, if only the two
values have intervals, where these do not overlap, which is stricter than a test of the difference.
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
        agreement.default_maps(comparison),
        agreement.gap(comparison),
    ]


__all__ = ["agreement", "explanations", "findings", "models", "numbers", "trust"]
