"""The images of an experiment: CIFAR-10, the built-in shapes, or a folder of one's own images."""

import logging

from visavis.config import DataConfig
from visavis.data import cifar10, download, image_folder, shapes
from visavis.data.dataset import Dataset, Labels, Pixels, class_counts, describe, info, split
from visavis.errors import DataError, EnvironmentFault

__all__ = ["Dataset", "Labels", "Pixels", "class_counts", "describe", "info", "resolve", "split"]

log = logging.getLogger(__name__)

_FALLBACK = (
    "CIFAR-10 is not available, so the built-in shapes are used instead: these results say nothing "
    "about CIFAR-10. The reason: {}"
)


def resolve(config: DataConfig) -> Dataset:
    """The images that `config` selects, after logging what a reader of any result must know.

    Raises:
        DataError: CIFAR-10 was requested, by name or by folder, and is missing or damaged; or a
            folder of images cannot be used.
        EnvironmentFault: CIFAR-10 was requested by name and the cache cannot be written.
    """
    dataset = _resolve(config)
    if dataset.notice:
        log.info("NOTE: %s", dataset.notice)
    return dataset


def _resolve(config: DataConfig) -> Dataset:
    if config.source == "shapes":
        return shapes.dataset()
    if config.source == "folder":
        assert config.dir is not None  # DataConfig requires it
        return image_folder.read(config.dir)
    if config.dir is not None:
        log.info("reading CIFAR-10 from %s", config.dir)
        return cifar10.read(config.dir)
    try:
        return cifar10.read(download.fetch())
    except (DataError, EnvironmentFault) as error:
        if config.source == "cifar10":
            raise
        return shapes.dataset(notice=_FALLBACK.format(error))
