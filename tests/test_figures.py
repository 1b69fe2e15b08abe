import re
from pathlib import Path

import numpy as np
import pytest

from visavis.report.figures import bars, curves, dots, galleries, heatmaps, matrices
from visavis.report.figures.style import BASELINE_COLOUR, FIRST, svg
from visavis.run_folder import ModelFolder

NAMES = ("cat", "dog", "<script>")
LABELS = {"first": "CNN", "second": "resnet20"}
LOOK = {"label": "CNN", "colour": FIRST}
CELL = 32 // 8


def hot(row: int, column: int) -> np.ndarray:
    heatmap = np.zeros((8, 8), np.float32)
    heatmap[row, column] = 3.0
    return heatmap


def model(heatmaps: dict[str, np.ndarray]) -> ModelFolder:
    """A CNN whose one image is classified correctly."""
    folder = ModelFolder(Path("cnn"))
    vars(folder)["heatmaps"] = heatmaps  # where a file that was read is kept
    vars(folder)["config"] = {"model": {"name": "cnn"}}
    vars(folder)["explanations"] = {
        "default_method": "grad_cam",
        "methods": {"grad_cam": {"label": "Grad-CAM", "class_specific": True}},
        "gallery": {"correct": [0], "incorrect": []},
    }
    return folder


def lightness(pixels: np.ndarray) -> np.ndarray:
    return pixels.astype(float).sum(axis=2)


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(90, 110, (32, 32, 3), dtype=np.uint8)


def test_overlay_is_lightest_over_the_hottest_cell(image: np.ndarray) -> None:
    laid = heatmaps.overlay(image, hot(1, 6), scale=4)
    assert laid.shape == (128, 128, 3)
    assert laid.dtype == np.uint8
    row, column = np.unravel_index(lightness(laid).argmax(), (128, 128))
    assert (row // (4 * CELL), column // (4 * CELL)) == (1, 6)


def test_overlay_does_not_mirror_or_transpose(image: np.ndarray) -> None:
    laid = lightness(heatmaps.overlay(image, hot(7, 0)))
    assert laid[-32:, :32].mean() > 1.5 * laid[:32, -32:].mean()


def test_overlay_leaves_only_the_maps_colour(image: np.ndarray) -> None:
    image[..., 0] = 255
    without_heat = heatmaps.overlay(image, hot(0, 0), opacity=0.0)
    assert np.ptp(without_heat, axis=2).max() == 0


@pytest.mark.parametrize("value", [0.0, 5.0, -2.0, np.nan])
def test_a_map_without_evidence_is_dark_everywhere(image: np.ndarray, value: float) -> None:
    heat = heatmaps.heat_image(np.full((8, 8), value))
    assert len(np.unique(heat.reshape(-1, 3), axis=0)) == 1
    assert heat.max() < 10
    assert heatmaps.overlay(image, np.full((8, 8), value)).max() < 100


def test_evidence_against_a_class_counts_as_none() -> None:
    heatmap = hot(2, 2)
    heatmap[5, 5] = -9
    assert np.array_equal(heatmaps.heat_image(heatmap), heatmaps.heat_image(hot(2, 2)))


def test_svg_takes_its_colours_from_the_page_and_is_reproducible() -> None:
    matrix = np.array([[5, 1, 0], [0, 7, 0], [2, 0, 3]])
    drawn, again = (svg(matrices.confusion(matrix, NAMES, **LOOK)) for _ in range(2))
    assert drawn == again
    assert "var(--first)" in drawn
    assert "var(--ink)" in drawn
    assert not re.findall(r"#[0-9a-f]{6}", drawn)
    assert 'role="img"' in drawn
    assert "http://" not in re.sub(r'xmlns(:xlink)?="[^"]*"', "", drawn)


def test_class_names_are_escaped_and_stand_on_both_axes() -> None:
    drawn = svg(matrices.confusion(np.eye(3, dtype=int), NAMES, **LOOK))
    assert "<script>" not in drawn
    assert drawn.count("&lt;script&gt;") == 2


def test_a_class_called_like_a_formula_is_drawn() -> None:
    drawn = svg(bars.class_counts([1, 2, 3], ("$a^b$", "$", "_{"), "Training"))
    assert "$a^b$" in drawn


def test_confusion_shows_counts_and_shares_of_the_row() -> None:
    drawn = svg(matrices.confusion(np.array([[30, 10], [0, 0]]), ("a", "b"), **LOOK))
    for text in ("30", "75.0", "10", "25.0"):
        assert f">{text}</text>" in drawn


def test_confusion_difference_shows_which_model_has_more() -> None:
    figure = matrices.confusion_difference(np.array([[4, -4], [0, 0]]), ("a", "b"), LABELS)
    drawn = svg(figure)
    assert ">+4</text>" in drawn
    assert ">−4</text>" in drawn
    assert "CNN minus resnet20, counts" in drawn
    assert "var(--first)" in drawn
    assert "var(--second)" in drawn


def test_a_missing_score_reads_not_available() -> None:
    rows = [
        dots.Row("here", {"value": 0.1, "low": 0.0, "high": 0.2}, FIRST),
        dots.Row("gone", None, BASELINE_COLOUR),
    ]
    drawn = svg(dots.dots(rows, "A score"))
    assert ">not available</text>" in drawn
    assert "A score: here: 0.10; gone: not available" in drawn


def test_curves_of_a_single_epoch() -> None:
    epoch = {
        "epoch": 1,
        "train_loss": 2.0,
        "val_loss": 2.1,
        "train_accuracy": 0.2,
        "val_accuracy": 0.1,
        "elapsed_train_seconds": 4.0,
    }
    for figure in (
        curves.training_curve([epoch], 1, "loss", **LOOK),
        curves.training_curve([epoch], 1, "accuracy", **LOOK),
        curves.wall_clock({"first": [epoch], "second": [epoch]}, LABELS),
    ):
        assert "<svg" in svg(figure)


def test_the_tested_epoch_is_marked_where_the_validation_loss_is() -> None:
    history = [
        {"epoch": e, "train_loss": 1 / e, "val_loss": loss}
        for e, loss in enumerate((2.0, 0.5, 0.9), 1)
    ]
    axes = curves.training_curve(history, 2, "loss", **LOOK).axes[0]
    assert any(
        list(line.get_xdata()) == [2] and list(line.get_ydata()) == [0.5] for line in axes.lines
    )


def test_image_figure_of_a_model_that_is_never_wrong(image: np.ndarray) -> None:
    arrays = {
        "images": image[None],
        "labels": np.array([1]),
        "predicted": np.array([1]),
        "confidence": np.array([0.875]),
        "indices": np.array([17]),
        "map_grad_cam": hot(0, 0)[None],
        "degenerate_grad_cam": np.array([False]),
    }
    groups = galleries.gallery(model(arrays), NAMES)
    cell, laid = groups[0].rows[0]
    assert "true: dog" in cell.caption
    assert cell.caption[1].startswith("predicted: dog, 88")
    assert laid.alt == "Grad-CAM of the CNN for dog: highest in the upper left"
    assert heatmaps.image_figure(groups).axes

    arrays["degenerate_grad_cam"] = np.array([True])
    degenerate = galleries.gallery(model(arrays), NAMES)
    assert degenerate[0].rows[0][1].caption == ("degenerate",)


def test_of_many_blocks_evenly_spaced_ones_are_shown_and_the_last() -> None:
    arrays = {
        "images": np.zeros((1, 32, 32, 3), np.uint8),
        "labels": np.array([0]),
        "predicted": np.array([0]),
        "confidence": np.array([1.0]),
        "indices": np.array([0]),
        "attention_heads": np.random.default_rng(0).random((1, 30, 9, 8, 8)).astype(np.float16),
    }
    _, maps = galleries.attention_heads(arrays, 0, NAMES, most=5)
    assert [name for name, _ in maps.headings] == [f"block {b}" for b in (1, 8, 15, 23, 30)]
    assert maps.row_labels == ("mean", *(f"head {h}" for h in range(1, 6)))
    assert {len(row) for row in maps.rows} == {5}


@pytest.mark.parametrize(
    ("row", "column", "part"),
    [
        (0, 0, "upper left"),
        (2, 3, "upper part"),
        (5, 3, "lower part"),
        (4, 0, "left part"),
        (3, 4, "centre"),
        (7, 7, "lower right"),
    ],
)
def test_the_part_of_the_image_is_named_symmetrically(row: int, column: int, part: str) -> None:
    assert heatmaps.where(hot(row, column)) == f"in the {part}"


@pytest.mark.parametrize(("side", "shown"), [(28, 112), (32, 128), (64, 128), (224, 128)])
def test_images_of_any_side_are_shown_at_about_the_same(side: int, shown: int) -> None:
    arrays = {
        "images": np.zeros((1, side, side, 3), np.uint8),
        "labels": np.array([1]),
        "predicted": np.array([1]),
        "confidence": np.array([1.0]),
        "indices": np.array([0]),
        "map_grad_cam": np.eye(7, dtype=np.float32)[None],
        "degenerate_grad_cam": np.array([False]),
    }
    original, laid = galleries.gallery(model(arrays), NAMES)[0].rows[0]
    assert original.pixels.shape[0] == min(side, 128)
    assert original.smooth == (side > 64)
    assert laid.pixels.shape == (shown, shown, 3)
