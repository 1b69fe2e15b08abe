import numpy as np
import torch

from visavis.data.batches import in_batches


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
