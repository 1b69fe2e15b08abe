import numpy as np
import pytest

import tiny
from visavis.metrics import baselines


@pytest.mark.parametrize(
    "maps",
    [
        lambda images: baselines.centre_maps(len(images), 8),
        lambda images: baselines.edge_maps(images, 8),
    ],
    ids=["centre", "edges"],
)
def test_the_map_of_an_image_in_a_batch_is_that_of_the_image_alone(maps):
    images = tiny.images(5).numpy()
    alone = np.concatenate([maps(images[i : i + 1]) for i in range(5)])
    np.testing.assert_array_equal(maps(images), alone)


def test_random_maps_of_the_first_images_stay_when_others_come_after_them():
    few, many = (baselines.random_maps(n, 8, seed=0) for n in (2, 5))
    np.testing.assert_array_equal(many[:2], few)
