"""The explain stage: heatmaps of one trained model on test images, and how faithful they are.

Reads config.json, data.json, training.json, weights.safetensors, predictions.npz and split.npz.
Writes heatmaps.npz, removal.npz (deletion and insertion of each image) and explanations.json.

Each image is explained for its predicted class. Both models are explained on the same random sample
of test images, on which all scores are measured; the gallery's images are added to it.
"""

import logging
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int

from visavis import attribution, models, run_folder
from visavis.attribution import Subject
from visavis.config import EXPLANATION_SEED as SEED
from visavis.config import ExplainConfig
from visavis.data import Dataset
from visavis.data.batches import Images, to_images
from visavis.errors import CheckpointError, DataError, ScoreError
from visavis.files import file_sha256, lock
from visavis.metrics import localization
from visavis.metrics.faithfulness import Removal
from visavis.stages.explain import findings, layers, maps, validation
from visavis.stages.explain.cost import sample_size
from visavis.stages.explain.in_domain import adapted
from visavis.stages.explain.selection import FEW, PAIRED, Chosen, Sample, choose_images
from visavis.stages.trained import check_data, load_trained, observed, split_rows
from visavis.training import hardware

ALONE = 100
"""Images on which `validate_scores` tests the scores; `explain` does so on FEW."""

logger = logging.getLogger(__name__)


def explain(
    folder: Path,
    dataset: Dataset,
    config: ExplainConfig,
    *,
    device: torch.device | str = "cpu",
    autocast: bool = False,
) -> None:
    """Explain the model in `folder` and measure the explanations.

    Args:
        autocast: run the forward passes of SRG in bf16, not the maps.

    Raises:
        CheckpointError: the folder is incomplete, altered, or of other images.
        EnvironmentFault: another process is writing the folder.
    """
    check_data(folder, dataset)
    with lock(folder):
        started = time.perf_counter()
        subject = _subject(folder, dataset, config, device, autocast=autocast)
        explanations = _explain(folder, dataset, config, subject)
        measured_in = {
            "precision": "bf16" if autocast else "float32",
            "seconds": time.perf_counter() - started,
        }
        run_folder.write_json(folder / run_folder.EXPLANATIONS, explanations | measured_in)


def _explain(
    folder: Path, dataset: Dataset, config: ExplainConfig, subject: Subject
) -> dict[str, Any]:
    """Write the arrays, and return what explanations.json says of them."""
    size = sample_size(config, [subject], dataset.test_pixels[:50])
    chosen = choose_images(*_predictions(folder, dataset), sample=size)
    n = chosen.sample
    sweep, layer = _sweep(folder, subject, dataset, config)
    pixels = dataset.test_pixels[chosen.indices]
    images = to_images(pixels).to(subject.fill.device)
    explained, refused = maps.explain_all(subject, images, chosen, layer, on_request=config.methods)
    default = attribution.default_method(subject, without=refused)
    sample = _sample(subject, dataset, chosen, images, layer)
    copied = _adapted(folder, subject, dataset, n)
    found, removal = findings.measure(sample, explained, default, copied)
    drawn_again = _drawn_again(sample, dataset, chosen, explained, copied, removal)
    heatmaps = maps.arrays(subject, images, pixels, chosen, explained)
    removed = {"indices": chosen.indices[:n], **removal.arrays()}
    # Explanations of an earlier time refer to rows of their own heatmaps.
    (folder / run_folder.EXPLANATIONS).unlink(missing_ok=True)
    run_folder.write_arrays(folder / run_folder.HEATMAPS, **heatmaps)
    run_folder.write_arrays(folder / run_folder.REMOVAL, **removed)
    return {
        "n": n,
        "sample_rule": f"{n} of the {len(dataset.test_labels)} test images, drawn at random, the "
        "same for both models",
        "grid": [subject.grid, subject.grid],
        "default_method": default,
        "not_offered": attribution.not_offered(subject) | refused,
        "layer": layer,
        "layer_sweep": sweep,
        **found,
        **drawn_again,
        "gallery": chosen.gallery,
        "weights_sha256": file_sha256(folder / run_folder.WEIGHTS),
    }


def explain_again(
    folder: Path,
    dataset: Dataset,
    config: ExplainConfig,
    *,
    layer: str | None,
    device: torch.device | str = "cpu",
) -> None:
    """Write heatmaps.npz alone, of the sample: for a second seed of an explained model.

    Args:
        layer: where Grad-CAM looks, that of the first seed.

    Raises:
        CheckpointError: as `explain`.
    """
    check_data(folder, dataset)
    with lock(folder):
        subject = _subject(folder, dataset, config, device)
        chosen = choose_images(
            *_predictions(folder, dataset), sample=config.images, shown=0, mistakes=0
        )
        pixels = dataset.test_pixels[chosen.indices]
        images = to_images(pixels).to(device)
        explained, _ = maps.explain_all(
            subject, images, chosen, layer, on_request=config.methods, predicted_only=True
        )
        run_folder.write_arrays(
            folder / run_folder.HEATMAPS,
            layer=np.array(str(layer)),
            weights_sha256=np.array(file_sha256(folder / run_folder.WEIGHTS)),
            **maps.arrays(subject, images, pixels, chosen, explained),
        )


def _subject(
    folder: Path,
    dataset: Dataset,
    config: ExplainConfig,
    device: torch.device | str,
    *,
    autocast: bool = False,
) -> Subject:
    """What explanations see of the model in `folder`."""
    model = hardware.place(load_trained(folder), torch.device(device))
    return observed(model, dataset.train_pixels[:2], grid=config.grid, autocast=autocast)


def _sample(
    subject: Subject, dataset: Dataset, chosen: Chosen, images: Images, layer: str | None
) -> Sample:
    """The images of the sample, with their ground-truth masks if the data has any."""
    rows = slice(chosen.sample)
    masks = None
    if dataset.test_masks is not None:
        masks = localization.cell_means(dataset.test_masks[chosen.indices[rows]], subject.grid)
    return Sample(subject, images[rows], chosen.predicted[rows], chosen.labels[rows], masks, layer)


def validate_scores(
    folder: Path, dataset: Dataset, *, device: torch.device | str = "cpu", autocast: bool = False
) -> dict[str, Any]:
    """Hold the scores against the known truth on a trained model; nothing is written.

    Raises:
        CheckpointError: as `explain`.
        DataError: the truth of these images is not known.
        ScoreError: too few maps of the model are valid.
    """
    check_data(folder, dataset)
    if dataset.redraw is None:
        raise DataError(
            f"{folder} was trained on images whose truth is not known; scores can be tested on a "
            "model of the built-in shapes (--data.source shapes)"
        )
    subject = _subject(folder, dataset, ExplainConfig(), device, autocast=autocast)
    chosen = choose_images(*_predictions(folder, dataset), sample=ALONE, shown=0, mistakes=0)
    images = to_images(dataset.test_pixels[chosen.indices]).to(device)
    layer = None if "layers" in subject.lacks else subject.default_layer
    explained, _ = maps.explain_all(subject, images, chosen, layer, predicted_only=True)
    sample = _sample(subject, dataset, chosen, images, layer)
    copied = _adapted(folder, subject, dataset, chosen.sample)
    nothing = Removal({}, {})
    found = _validated(sample, dataset, chosen, explained, copied, nothing)
    if found is None:
        raise ScoreError(f"too few maps of {folder} are valid to test scores on; train it longer")
    return found


def _drawn_again(
    sample: Sample,
    dataset: Dataset,
    chosen: Chosen,
    explained: dict[str, maps.Explained],
    copied: Subject,
    known: Removal,
) -> dict[str, Any]:
    """The test of the scores, and what stays when only the background changes.

    Both are None for images that cannot be drawn again.
    """
    if dataset.redraw is None:
        return {"score_validation": None, "other_background": None}
    tested = _validated(sample.first(FEW), dataset, chosen, explained, copied, known)
    paired = sample.first(PAIRED)
    pixels = dataset.redraw("other_background")[chosen.indices[: len(paired.images)]]
    moved = findings.on_other_background(
        paired, explained, to_images(pixels).to(sample.images.device)
    )
    return {"score_validation": tested, "other_background": moved}


def _validated(
    sample: Sample,
    dataset: Dataset,
    chosen: Chosen,
    explained: dict[str, maps.Explained],
    copied: Subject,
    known: Removal,
) -> dict[str, Any] | None:
    """What `validation.validate` finds; None without a known truth or valid maps."""
    if dataset.redraw is None or dataset.test_masks is None:
        return None
    n = len(sample.images)
    at = chosen.indices[:n]
    return validation.validate(
        sample,
        {name: of.maps[:n] for name, of in explained.items()},
        copied,
        known,
        plates=to_images(dataset.redraw("clean_plate")[at]).to(sample.images.device),
        masks=dataset.test_masks[at],
    )


def _adapted(folder: Path, subject: Subject, dataset: Dataset, n: int) -> Subject:
    """A copy of the model that was trained further on masked images, for IDSDS on `n` images."""
    config = models.config_from_json(run_folder.read_json(folder / run_folder.CONFIG)["model"])
    rows = split_rows(folder, dataset, "train")
    return adapted(subject, config.optim, dataset, rows, sample=n)


def _sweep(
    folder: Path, subject: Subject, dataset: Dataset, config: ExplainConfig
) -> tuple[dict[str, Any] | None, str | None]:
    """Which layer Grad-CAM uses, chosen on validation images; None where there is none."""
    if "layers" in subject.lacks:
        return None, None
    rows = np.random.default_rng(SEED).permutation(split_rows(folder, dataset, "validation"))
    images = to_images(dataset.train_pixels[rows[: config.sweep_images]])
    images = images.to(subject.fill.device)
    logger.info("Choosing the layer that Grad-CAM explains on %d images.", len(images))
    sweep = layers.sweep(subject, images)
    logger.info(sweep["reason"])
    layer = next(row["layer"] for row in sweep["rows"] if row["chosen"])
    return {"split": "validation", "n": len(images), **sweep}, layer


def _predictions(
    folder: Path, dataset: Dataset
) -> tuple[Float[np.ndarray, "m classes"], Int[np.ndarray, " m"]]:
    """The stored test logits and labels, after a check that they belong to `dataset`."""
    path = folder / run_folder.PREDICTIONS
    stored = run_folder.read_arrays(path)
    m = len(dataset.test_labels)
    if not (
        {"logits", "labels", "indices"} <= stored.keys()
        and stored["logits"].shape == (m, len(dataset.class_names))
        and np.isfinite(stored["logits"]).all()
        and np.array_equal(stored["indices"], np.arange(m))
        and np.array_equal(stored["labels"], dataset.test_labels)
    ):
        raise CheckpointError(
            f"{path} does not hold one prediction for each test image of {dataset.source}; "
            "evaluate this model again, on the data that it was trained on"
        )
    return stored["logits"], stored["labels"]
