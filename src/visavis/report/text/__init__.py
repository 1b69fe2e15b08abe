"""Sentences from numbers: they follow the intervals, never an expectation.

A difference is called significant only where its 95 % interval excludes zero or, if only the two
values have intervals, where these do not overlap, which is stricter than a test of the difference.
"""

from collections.abc import Mapping

from visavis.report.text import agreement, cues, explanations, models, multiple, numbers, trust
from visavis.report.text.numbers import Values


def findings(
    explained: Mapping[str, Values],
    comparison: Values,
    cross_model: Values,
    *,
    same_machine: bool = True,
) -> list[str]:
    """The report in a few sentences; `explained` has each role's explanations.json."""
    labels = comparison["labels"]
    worth = [explanations.meaningful(of, labels[role])[0] for role, of in explained.items()]
    found = [
        models.accuracy(comparison),
        models.cost(comparison),
        models.convergence(comparison, same_machine=same_machine),
        " ".join(worth),
        " ".join(trust.trusted(of, cross_model, role) for role, of in explained.items()),
        agreement.default_maps(comparison),
        agreement.gap(comparison),
        cues.between_models(comparison),
        multiple.corrected(multiple.tests(explained, comparison, cross_model)),
    ]
    return [sentence for sentence in found if sentence]


__all__ = [
    "agreement",
    "cues",
    "explanations",
    "findings",
    "models",
    "multiple",
    "numbers",
    "trust",
]
