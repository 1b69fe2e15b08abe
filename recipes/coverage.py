"""How often the intervals of `metrics/bootstrap.py` cover what they are for: about 2 minutes.

    .venv/bin/python recipes/coverage.py

Values of images are simulated: each is the effect of its class plus its own, which has a standard
deviation of 1. For each setting: how often the interval for these classes covers the mean of the
classes at hand, how often that for other classes covers the mean of all classes of the kind (0),
and how often an interval of images without their classes covers either.
"""

from collections.abc import Callable

import numpy as np

from visavis.metrics.bootstrap import Interval, interval

DATA_SETS = 2000
Draw = Callable[[np.random.Generator], np.ndarray]
Effect = Callable[[np.random.Generator, int], np.ndarray]


def normal(generator: np.random.Generator, count: int) -> np.ndarray:
    """A normal distribution with a mean of 0."""
    return generator.normal(0, 1, count)


def skewed(generator: np.random.Generator, count: int) -> np.ndarray:
    """An exponential distribution with a mean of 0."""
    return generator.exponential(1, count) - 1


def equal(classes: int, each: int) -> Draw:
    """As many images of every class."""
    return lambda generator: np.repeat(np.arange(classes), each)


def unequal(classes: int, images: int) -> Draw:
    """So many images, each of a random class."""
    return lambda generator: generator.integers(0, classes, images)


SETTINGS: dict[str, tuple[int, float, Draw, Effect]] = {
    "10 classes of 50, alike": (10, 0.2, equal(10, 50), normal),
    "10 classes of 50": (10, 1.0, equal(10, 50), normal),
    "10 classes of 50, skewed": (10, 1.0, equal(10, 50), skewed),
    "10 classes of 10": (10, 1.0, equal(10, 10), normal),
    "10 classes of 10, skewed": (10, 1.0, equal(10, 10), skewed),
    "24 images of 10 classes": (10, 1.0, unequal(10, 24), normal),
    "6 classes of 50": (6, 1.0, equal(6, 50), normal),
    "100 classes of 3": (100, 1.0, equal(100, 3), normal),
}
"""Number of classes, standard deviation of their effects, the class of each image, distribution."""


def covers(found: Interval, value: float, which: str = "") -> bool:
    """Whether the interval includes a value."""
    return found[f"low{which}"] <= value <= found[f"high{which}"]


def main() -> None:
    """Print a row for each setting."""
    print(f"{'':26s}  these  others  plain for these, for others  width, others / these")
    for name, (count, spread, classes_of, effect) in SETTINGS.items():
        generator, rows = np.random.default_rng(0), []
        for seed in range(DATA_SETS):
            of_classes, classes = spread * effect(generator, count), classes_of(generator)
            values = of_classes[classes] + effect(generator, len(classes))
            at_hand = of_classes[classes].mean()
            found = interval(values, classes=classes, seed=seed, resamples=1000)
            plain = interval(values, seed=seed, resamples=1000)
            assert found is not None
            assert plain is not None
            wide = found["high_other_classes"] - found["low_other_classes"]
            rows.append(
                [
                    covers(found, at_hand),
                    covers(found, 0, "_other_classes"),
                    covers(plain, at_hand),
                    covers(plain, 0),
                    wide / (found["high"] - found["low"]),
                ]
            )
        these, others, plain_these, plain_others, ratio = np.mean(rows, axis=0)
        print(
            f"{name:26s}  {these:.3f}  {others:.3f}   {plain_these:.3f}, {plain_others:.3f}"
            f"  {ratio:.1f}"
        )


if __name__ == "__main__":
    main()
