"""How often the intervals of `metrics/over_trainings.py` cover what they are for: about a minute.

    .venv/bin/python recipes/coverage_over_trainings.py

Simulated studies: the score of a training on an image is the effect of the training, that of the
image (standard deviation 0.4) and one of both (0.2). For each setting, how often the intervals
over images, over trainings and over both cover the truth that each is for, and how often a
bootstrap that draws trainings and images would cover that of both.
"""

import numpy as np

from visavis.metrics import over_trainings

STUDIES, IMAGES, RESAMPLES = 1000, 200, 200


def resampled_covers(scores: np.ndarray, generator: np.random.Generator) -> bool:
    """Whether the percentile bootstrap over trainings and images includes 0."""
    trainings, images = scores.shape
    weights = generator.multinomial(images, np.full(images, 1 / images), RESAMPLES) / images
    rows = generator.integers(0, trainings, (RESAMPLES, trainings))
    drawn = ((weights @ scores.T)[np.arange(RESAMPLES)[:, None], rows]).mean(axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return bool(low <= 0 <= high)


def main() -> None:
    """Print a row for each number of trainings and size of their effect."""
    generator = np.random.default_rng(0)
    print("trainings, their standard deviation: images, trainings, both; resampling both")
    for trainings in (2, 3, 5, 10):
        for size in (0.0, 0.02, 0.1):
            hits = np.zeros(4)
            for _ in range(STUDIES):
                of_training = generator.normal(0, size, (trainings, 1))
                of_image = generator.normal(0, 0.4, IMAGES)
                rest = generator.normal(0, 0.2, (trainings, IMAGES))
                scores = of_training + of_image + rest
                found = over_trainings.spread(scores)
                truth = {"images": of_training.mean(), "trainings": of_image.mean(), "both": 0.0}
                hits += [
                    *(
                        found[of]["low"] <= value <= found[of]["high"]
                        for of, value in truth.items()
                    ),
                    resampled_covers(scores, generator),
                ]
            print(trainings, size, *(f"{share:.3f}" for share in hits / STUDIES))


if __name__ == "__main__":
    main()
