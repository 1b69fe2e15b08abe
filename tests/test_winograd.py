import pytest
import torch
import torch.nn.functional as F

from visavis.models import winograd


@pytest.mark.parametrize("made", [4, 6])
def test_a_column_filtered_by_the_matrices_is_the_column_filtered(made):
    torch.manual_seed(0)
    column, filter = torch.randn(made + 2), torch.randn(3)
    by = winograd.matrices(made)
    found = by.a @ ((by.g @ filter) * (by.b @ column))
    expected = torch.stack([filter @ column[row : row + 3] for row in range(made)])
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_other_points_give_the_matrix_of_lavin_and_gray(monkeypatch):
    """B of F(4, 3) in their section 4.2, up to a factor of each row."""
    monkeypatch.setitem(winograd.POINTS, 4, (0, 1, -1, 2, -2))
    found = winograd.matrices.__wrapped__(4).b
    theirs = torch.tensor(
        [
            [4.0, 0, -5, 0, 1, 0],
            [0, -4, -4, 1, 1, 0],
            [0, 4, -4, -1, 1, 0],
            [0, -2, -1, 2, 1, 0],
            [0, 2, -1, -2, 1, 0],
            [0, 4, 0, -5, 0, 1],
        ]
    )
    assert F.cosine_similarity(found, theirs).abs().tolist() == pytest.approx(6 * [1])


def test_channels_that_fill_no_vectors_are_refused():
    with pytest.raises(ValueError, match="multiple of 32"):
        winograd.convolved(torch.rand(1, 16, 4, 4), torch.rand(2, 16, 72))
