import pytest

import small
from tiny import requires_compiler
from visavis.bench import bench, training_gflops
from visavis.config import CNNConfig, OptimConfig, ViTConfig
from visavis.results import benched

FUSED_OR_NOT = pytest.mark.parametrize(
    ("fused", "share"),
    [
        (False, 1),
        pytest.param(True, 0.5, marks=requires_compiler),
    ],
)


@FUSED_OR_NOT
def test_operations_are_those_of_the_layers(fused, share):
    """Twice the multiplications, three times over: forward, and backward to input and weights.

    Fused, linear layers in the blocks take half of them.
    """
    width, hidden, tokens = 64, 128, 65
    after = width * width + 2 * width * hidden
    block = tokens * (3 * width * width + after) * share + 2 * tokens * tokens * width
    # In the last one all are read, but the class token alone reads and goes on.
    last = (tokens * 3 * width * width + after) * share + 2 * tokens * width
    patches = 64 * 48 * width  # the pixels need no gradient
    total = 6 * (block + last + 10 * width) + 4 * patches
    config = ViTConfig(width=width, depth=2, heads=4)
    found = training_gflops(config, fused=fused)
    assert found == pytest.approx(total / 1e9, rel=1e-9)


@FUSED_OR_NOT
def test_fused_the_cnn_takes_half_of_the_products_but_for_the_first_layers(fused, share):
    whitening = 2 * 31**2 * 12 * 24  # the pixels need no gradient
    first = 3 * 31**2 * 9 * 24 * 64
    of_16 = 16**2 * (64 * 64 + 64 * 64 + 64 * 256)
    of_8_and_4 = (8**2 * 4 + 4**2) * 256 * 256
    head = 3 * 256 * 10
    total = whitening + first + share * 3 * 9 * (of_16 + of_8_and_4) + head
    config = CNNConfig(widths=(64, 256, 256))
    found = training_gflops(config, fused=fused)
    assert found == pytest.approx(2 * total / 1e9, rel=1e-3)


def test_bench_measures_both_models():
    optim = OptimConfig(epochs=7, batch_size=50)
    measured = bench(small.experiment(cnn=optim, vit=optim), small.dataset())
    for facts in measured["models"].values():
        assert facts["training_pictures_per_second"] > 0
        assert 0 < facts["loader_share"] < 1
        assert 0 < facts["share_of_matrix_rate"] < 1
        assert facts["compiled"] is False
    assert measured["machine"]["precision"] == "float32"
    assert "GFLOP per picture" in benched(measured)
