import pytest

import small
from visavis.bench import bench, training_gflops
from visavis.config import CNNConfig, OptimConfig, ViTConfig
from visavis.results import benched


def test_operations_are_those_of_the_layers():
    """Twice the multiplications, three times over: forward, and backward to input and weights."""
    width, hidden, tokens = 48, 96, 65
    linear = 4 * width * width + 2 * width * hidden
    block = tokens * linear + 2 * tokens * tokens * width
    # In the last one all are read, but the class token alone reads and goes on.
    last = 2 * (tokens - 1) * width * width + linear + 2 * tokens * width
    patches = 64 * 48 * width  # the pixels need no gradient
    total = 6 * (block + last + 10 * width) + 4 * patches
    config = ViTConfig(width=width, depth=2, heads=3)
    assert training_gflops(config) == pytest.approx(total / 1e9, rel=1e-3)
    wide = CNNConfig(widths=(64, 256, 256))
    assert training_gflops(wide) > 1.2 * training_gflops(CNNConfig(widths=(64, 192, 256)))


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
