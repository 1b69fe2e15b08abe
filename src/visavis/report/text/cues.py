"""What the models rely on, and not only where they look."""

from visavis.metrics.significance import side
from visavis.report.labels import the
from visavis.report.text.numbers import Values, listed, share
from visavis.run_folder import ROLES


def of_each(comparison: Values) -> list[str]:
    """For each model, the images on which it keeps most of its accuracy, and least."""
    sentences = []
    for role, label in comparison["labels"].items():
        kept = {row["label"]: row["kept"][role] for row in comparison["cues"]["rows"]}
        name = the(label)
        if None in kept.values():
            sentences.append(
                f"What {name} keeps without a cue could not be computed: there are too few images, "
                "or its accuracy is not clearly above chance."
            )
            continue
        least, *_, most = sorted(kept, key=lambda of: kept[of]["value"])
        sentences.append(
            f"Of its accuracy above chance, {name} keeps most on {most} images, "
            f"{share(kept[most])}, and least on {least} images, {share(kept[least])}."
        )
    return sentences


def between_models(comparison: Values) -> str | None:
    """On which images one model keeps more of its accuracy than the other; None if unknown."""
    rows = comparison["cues"]["rows"]
    if any(row["kept_difference"] is None for row in rows):
        return None
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
