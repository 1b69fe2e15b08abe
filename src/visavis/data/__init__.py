"""The images of an experiment: CIFAR, the built-in shapes, or a folder of one's own images."""

import logging

from visavis.config import DataConfig
from visavis.data import cifar, download, image_folder, shapes
from visavis.data.dataset import Dataset, Labels, Pixels, class_counts, describe, info, split
from visavis.errors import ConfigError, DataError, EnvironmentFault

__all__ = ["Dataset", "Labels", "Pixels", "class_counts", "describe", "info", "resolve", "split"]

log = logging.getLogger(__name__)

_FALLBACK = (
    "CIFAR-10 is not available, so the built-in shapes are used instead: these results say nothing "
    "about CIFAR-10. The reason: {}"
)


def resolve(config: DataConfig) -> Dataset:
    """The images that `config` selects, after logging what a reader of any result must know.

    Raises:
        ConfigError: no folder of images is named.
        DataError: CIFAR was requested, by name or by folder, and is missing or damaged; or a
            folder of images cannot be used.
        EnvironmentFault: CIFAR was requested by name and the cache cannot be written.
    """
    dataset = _resolve(config)
    for notice in dataset.notices:
        log.info("NOTE: %s", notice)
    return dataset


def _resolve(config: DataConfig) -> Dataset:
    if config.source == "shapes":
        return shapes.dataset()
    if config.source == "folder":
        if config.dir is None:
            raise ConfigError("--data.source folder: say which with --data.dir DIR")
        return image_folder.read(config.dir, config.size)
    source: cifar.Source = "cifar100" if config.source == "cifar100" else "cifar10"
    if config.dir is not None:
        log.info("reading %s from %s", cifar.TITLES[source], config.dir)
        return cifar.read(config.dir, source)
    try:
        return cifar.read(download.fetch(source), source)
    except (DataError, EnvironmentFault) as error:
        if config.source != "auto":
            raise
        reason = str(error).replace(str(download.cache_folder()), "the cache")  # for the report
        return shapes.dataset(notice=_FALLBACK.format(reason))
