"""What the models rely on, and not only where they look."""

from visavis.metrics.significance import side
from visavis.report.labels import the
from visavis.report.text.numbers import Values, listed
from visavis.run_folder import ROLES


def between_models(comparison: Values) -> str:
    """On which images one model keeps more of its accuracy than the other."""
    rows = comparison["cues"]["rows"]
    if any(row["kept_difference"] is None for row in rows):
        return (
            "What the models keep without a cue could not be compared: there are too few images, "
            "or an accuracy is not clearly above chance."
        )
    first, second = (the(comparison["labels"][role]) for role in ROLES)
    found: dict[int, list[str]] = {1: [], -1: [], 0: []}
    for row in rows:
        found[side(row["kept_difference"])].append(row["label"])
    parts = [
        f"{a} keeps a larger share of its accuracy than {b} on {listed(found[lead])} images"
        for lead, a, b in ((1, first, second), (-1, second, first))
        if found[lead]
    ]
    if found[0]:
        parts.append(f"on {listed(found[0])} images, no significant difference was found")
    return f"With one cue removed at a time, {'; '.join(parts)}."
