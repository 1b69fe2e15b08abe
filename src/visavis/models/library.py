"""Models that timm and torchvision build by name, and the user's registered ones."""

import importlib
from typing import Any

from torch import nn

from visavis.config import RegisteredConfig
from visavis.errors import CheckpointError, ConfigError, EnvironmentFault, ModelError
from visavis.registry import registered


def build_registered(config: RegisteredConfig, classes: int, side: int) -> nn.Module:
    """The model that `config` names, freshly initialised unless its library's weights are wanted.

    Raises:
        CheckpointError: no model of that name is registered in this process.
        ConfigError: the library has no such model, or none for such images.
        EnvironmentFault: the library is not installed, or its weights are out of reach.
        ModelError: the factory fails, or returns something else than a module.
    """
    if "/" in config.name:
        library, name = config.name.split("/", 1)
        return _from_library(library, name, classes, side, pretrained=config.pretrained)
    if config.name not in registered:
        where = (
            f"name the file with --models {config.file}"
            if config.file
            else (f"register it first: visavis.register_model({config.name!r}, factory)")
        )
        raise CheckpointError(f"the model {config.name} is not known in this process; {where}")
    try:
        model = registered[config.name].factory(classes, side)
    except (Exception, SystemExit) as error:
        what = " ".join(f"{type(error).__name__}: {error}".split())
        raise ModelError(f"the factory of the model {config.name} fails with {what}") from error
    if not isinstance(model, nn.Module):
        raise ModelError(
            f"the factory of the model {config.name} returns a {type(model).__name__}; it must "
            "return a torch.nn.Module"
        )
    return model


def _from_library(
    library: str, name: str, classes: int, side: int, *, pretrained: bool
) -> nn.Module:
    try:
        package = importlib.import_module(library)
    except ImportError:
        raise EnvironmentFault(
            f"{library}/{name} needs the package {library}: pip install {library}"
        ) from None
    try:
        if library == "timm":
            return _sized(
                lambda **size: package.create_model(
                    name, pretrained=pretrained, num_classes=classes, **size
                ),
                img_size=side,
            )
        if pretrained:
            return _with_head(package.models.get_model(name, weights="DEFAULT"), classes)
        return _sized(
            lambda **size: package.models.get_model(name, num_classes=classes, **size),
            image_size=side,
        )
    except (OSError, ImportError) as error:  # ImportError: of a package that only weights need
        raise EnvironmentFault(
            f"the weights of {library}/{name} cannot be downloaded: {error}"
        ) from error
    except (RuntimeError, ValueError, TypeError, AssertionError, KeyError) as error:
        what = " ".join(str(error).split())
        raise ConfigError(
            f"{library} cannot build {name} for images of {side} x {side} pixels: {what}"
        ) from error


def _sized(create: Any, **size: int) -> nn.Module:
    """With the image side, for those models that ask for it."""
    try:
        return create(**size)
    except TypeError:
        return create()


def _with_head(model: nn.Module, classes: int) -> nn.Module:
    """The model with a new last linear layer, for other classes than those of its weights."""
    name, last = [(n, of) for n, of in model.named_modules() if isinstance(of, nn.Linear)][-1]
    parent = model.get_submodule(name.rpartition(".")[0])
    setattr(parent, name.rpartition(".")[2], nn.Linear(last.in_features, classes))
    return model
