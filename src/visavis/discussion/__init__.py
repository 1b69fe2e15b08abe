"""Sentences from numbers. What they say follows the intervals, never an expectation.

A difference is stated only where its 95 % interval leaves out zero or, where it was not taken as a
difference, where the two intervals do not touch, which is stricter than a test of their difference.
Otherwise the sentence says that none was shown.
"""

from visavis.discussion import alike, maps, models, numbers, trust
from visavis.discussion.numbers import Values


def findings(
    cnn: Values, vit: Values, comparison: Values, crosstest: Values, *, same_machine: bool = True
) -> list[str]:
    """The report in a few sentences; `cnn` and `vit` are their explanations.json."""
    worth = [maps.meaningful(values, values["default_method"])[0] for values in (cnn, vit)]
    return [
        models.accuracy(comparison),
        models.cost(comparison),
        models.convergence(comparison["convergence"], same_machine=same_machine),
        " ".join(worth),
        " ".join(trust.trusted(values, crosstest) for values in (cnn, vit)),
        maps.look_alike(comparison),
        alike.gap(comparison),
    ]


__all__ = ["alike", "findings", "maps", "models", "numbers", "trust"]
