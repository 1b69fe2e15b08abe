"""Look for what makes results misleading: uneven classes, blank images, duplicates, leakage."""

import hashlib

from visavis.data.dataset import Dataset, Labels, class_counts

EXAMPLES = 5
"""Most examples listed for each finding."""


def verify(dataset: Dataset) -> list[str]:
    """One sentence for each finding; none if there is nothing to report.

    Findings are classes of different size, images of a single colour, duplicates, and images in
    both the training and the test set. Indices count from 0 in the order of the files.
    """
    findings, digests = [], {}
    for name, pixels, labels in (
        ("training", dataset.train_pixels, dataset.train_labels),
        ("test", dataset.test_pixels, dataset.test_labels),
    ):
        counts = class_counts(labels, len(dataset.class_names))
        if len(set(counts)) > 1:
            sizes = ", ".join(map("{} {}".format, dataset.class_names, counts))
            findings.append(f"The {name} classes are not equally large: {sizes}.")
        if blank := [str(i) for i, of in enumerate(pixels) if (of == of[:1, :1]).all()]:
            findings.append(f"{len(blank)} {name} images have a single colour: {_listed(blank)}.")
        digests[name] = [
            hashlib.blake2b(image.tobytes(), digest_size=16).digest() for image in pixels
        ]
        findings += _duplicates(name, digests[name], labels)
    return findings + _leakage(dataset)


def _listed(items: list[str]) -> str:
    return ", ".join(items[:EXAMPLES])


def _duplicates(name: str, digests: list[bytes], labels: Labels) -> list[str]:
    first: dict[bytes, int] = {}
    pairs = [
        (index, first[digest])
        for index, digest in enumerate(digests)
        if first.setdefault(digest, index) != index
    ]
    if not pairs:
        return []
    relabelled = sum(int(labels[a] != labels[b]) for a, b in pairs)
    return [
        f"{len(pairs)} {name} images repeat an earlier one, {relabelled} of them with another "
        f"label: {_listed([f'{a} = {b}' for a, b in pairs])}."
    ]


def _leakage(dataset: Dataset) -> list[str]:
    shared = [f"test {index} = training {same[0]}" for index, same in dataset.leaked.items()]
    if not shared:
        return []
    return [
        f"{len(shared)} test images are also training images, {dataset.leaked_with_other_label} of "
        f"them with another label: {_listed(shared)}."
    ]
