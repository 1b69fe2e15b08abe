import numpy as np
import torch

from visavis.data.batches import in_batches, predict


def test_rows_of_tensors_and_arrays_go_together_in_order():
    sizes = []

    def add(a, b):
        sizes.append(len(a))
        return a + torch.from_numpy(b)

    rows, more = torch.arange(7), np.arange(7)
    assert torch.equal(in_batches(add, rows, more, size=3), 2 * rows)
    assert sizes == [3, 3, 1]


def test_no_rows_give_a_result_with_none():
    assert in_batches(lambda a: a.sum(dim=1), torch.zeros(0, 3)).shape == (0,)


def test_predictions_carry_no_graph():
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 2))
    images = torch.rand(150, 3, 2, 2)
    logits = predict(model, images)
    assert not logits.requires_grad
    assert torch.allclose(logits, model(images), atol=1e-6)
