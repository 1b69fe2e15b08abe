import numpy as np
import torch

import tiny
from visavis.metrics.masking import fills_for, masked_logits


def test_masked_cells_take_the_pixels_of_the_fill_of_their_own_image():
    subject, images, fills = tiny.subject("cnn"), tiny.images(2), tiny.images(2, seed=1)
    kept = np.ones((2, 3, 8, 8), dtype=bool)
    kept[0, 1, 2, 5] = kept[1, 2, 7, 0] = False
    expected = images.repeat_interleave(3, dim=0)
    expected[1, :, 8:12, 20:24] = fills[0, :, 8:12, 20:24]
    expected[5, :, 28:, :4] = fills[1, :, 28:, :4]
    found = masked_logits(subject, images, kept, fills=fills).float()
    torch.testing.assert_close(found, subject.predict(expected), atol=1e-5, rtol=1e-4)


def test_fills_are_the_mean_colour_and_the_image_without_its_details():
    subject, images = tiny.subject("cnn"), tiny.images(2)
    even = fills_for(subject, images, "mean")
    assert even.shape == images.shape
    assert (even == subject.fill).all()
    soft = fills_for(subject, images, "blur")
    assert soft.std(dim=(2, 3)).max() < 0.2 * images.std(dim=(2, 3)).min()
    torch.testing.assert_close(soft.mean(dim=(2, 3)), images.mean(dim=(2, 3)), atol=0.02, rtol=0)
