import dataclasses

import pytest

from visavis.config import (
    CNNConfig,
    DataConfig,
    Experiment,
    OptimConfig,
    ViTConfig,
    from_json,
    to_json,
)
from visavis.errors import ConfigError
from visavis.presets import preset


@pytest.mark.parametrize("name", ["smoke", "quick", "standard", "best"])
@pytest.mark.parametrize(
    ("source", "size"), [("cifar10", 32), ("shapes", 32), ("folder", 40), ("folder", 256)]
)
def test_every_preset_survives_json(name, source, size):
    experiment = preset(name, source, size)
    assert from_json(Experiment, to_json(experiment)) == experiment


@pytest.mark.parametrize("name", ["smoke", "quick", "standard", "best"])
def test_presets_scale_with_the_images(name):
    small, large = (preset(name, "folder", size) for size in (32, 96))
    assert (small.vit.patch_size, large.vit.patch_size) == (4, 12)
    for model in ("cnn", "vit"):
        crop, larger = small.model(model).optim.crop, large.model(model).optim.crop
        assert (crop, larger) in ((0, 0), (24, 72))
        assert small.model(model).optim.cost(32) == large.model(model).optim.cost(96)


@pytest.mark.parametrize("model", ["cnn", "vit"])
def test_presets_get_longer(model):
    costs = [
        preset(name, "cifar10").model(model).optim.cost(32)
        for name in ("smoke", "quick", "standard", "best")
    ]
    assert costs == sorted(set(costs))


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"extra": 1}, "extra"),
        ({"seed": "0"}, "seed"),
        ({"seed": True}, "seed"),
        ({"train": {"device": "tpu", "precision": "auto", "compile": False}}, "device"),
        ({"cnn": {**to_json(CNNConfig()), "widths": [64, 256]}}, "widths"),
        ({"cnn": 3}, "CNNConfig"),
    ],
)
@pytest.mark.fault(30)
def test_a_config_file_with_something_wrong_names_it(change, names):
    with pytest.raises(ConfigError, match=names):
        from_json(Experiment, {**to_json(Experiment()), **change})


def test_a_missing_key_is_named():
    values = to_json(Experiment())
    del values["vit"]["depth"]
    with pytest.raises(ConfigError, match="depth"):
        from_json(Experiment, values)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Experiment(vit=ViTConfig(patch_size=5)), "--vit.patch-size 5 does not divide"),
        (lambda: Experiment(vit=ViTConfig(patch_size=32)), "--vit.patch-size 32 does not divide"),
        (lambda: Experiment(cnn=CNNConfig(optim=OptimConfig(crop=40))), "--cnn.optim.crop 40"),
        (lambda: Experiment(optim=OptimConfig(crop=40)), "--optim.crop 40 is larger"),
        (lambda: OptimConfig(crop=7), "crop 7: use 8"),
        (lambda: DataConfig(source="folder", size=60), "--data.size 60: use 32 to 256"),
        (lambda: DataConfig(source="folder", size=264), "--data.size 264: use 32 to 256"),
        (lambda: DataConfig(size=64), "--data.size 64: only the images of a folder"),
        (lambda: preset("quick", "cifar100", 64), "--data.size 64: only the images of a folder"),
        (lambda: ViTConfig(width=100, heads=3), "not a multiple"),
        (lambda: ViTConfig(width=63, heads=3), "multiple of 4"),
        (lambda: ViTConfig(mlp_ratio=float("-inf")), "--vit.mlp-ratio -inf: use at least"),
        (
            lambda: Experiment(vit=ViTConfig(optim=OptimConfig(crop=18))),
            "--vit.optim.crop 18 does not",
        ),
        (lambda: OptimConfig(learning_rate=-1.0), "learning-rate -1"),
        (lambda: OptimConfig(learning_rate=float("nan")), "learning-rate nan"),
        (lambda: OptimConfig(epochs=0), "epochs 0: use 1"),
        (lambda: CNNConfig(widths=(64, 0, 64)), "--cnn.widths 64 0 64"),
        (lambda: Experiment(seed=-1), "--seed -1"),
        (lambda: DataConfig(validation_fraction=0.0), "validation-fraction"),
    ],
)
@pytest.mark.fault(30)
def test_values_that_cannot_work_are_refused_with_flag_and_value(build, message):
    with pytest.raises(ConfigError, match=message):
        build()


def test_configs_cannot_be_changed_by_accident():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Experiment().seed = 1
