"""The scores of maps are held against a known truth: SRG passes, and a worse score would not."""

import dataclasses

import numpy as np
import pytest
import torch

import tiny
from visavis.attribution.batched import grid_maps
from visavis.metrics import faithfulness
from visavis.stages.explain import validation
from visavis.stages.explain.selection import Sample


@pytest.fixture(scope="module")
def found():
    return validate()


def validate():
    """On a CNN that was taught to find a red patch, and images that show it."""
    drawn, labels, cells = tiny.planted(200, seed=999)
    rows = torch.nonzero(labels)[:60, 0]
    plates = torch.from_numpy(
        np.random.default_rng(999).uniform(0.3, 0.7, drawn.shape).astype(np.float32)
    )[rows]  # the same noise without the patch
    drawn, ones = drawn[rows], np.ones(len(rows), dtype=np.int64)
    subject = tiny.subject(tiny.taught("cnn", steps=60))
    masks = cells[rows].repeat(4, axis=1).repeat(4, axis=2) > 0
    sample = Sample(subject, drawn, ones, ones, cells[rows], subject.default_layer)
    maps = {
        name: grid_maps(subject, drawn, [ones], name)[0]
        for name in ("grad_cam", "integrated_gradients", "occlusion")
    }
    return validation.validate(sample, maps, subject, plates=plates, masks=masks)


def test_srg_orders_maps_as_the_truth_does_gives_a_blob_nothing_and_falls_as_a_map_is_spoilt(found):
    assert found["passed"], found["failed_because"]
    assert found["failed_because"] == []
    srg = found["scores"]["srg"]
    assert min(srg["correlation"].values()) > 0.8
    course = list(srg["course"].values())
    assert course[:5] == sorted(course[:5], reverse=True)
    assert abs(course[4]) < 0.05  # noise alone
    assert found["n"] == 60
    assert {"blob", "random", "centre", "edges", "occlusion"} < set(found["maps"])
    assert 0 < srg["images_needed"] < 60


def test_half_of_the_score_alone_would_not_pass(monkeypatch):
    def deletion_alone(removal, name, fill=None):
        return -removal.deletion[name].mean(axis=1)

    monkeypatch.setattr(faithfulness.Removal, "srg", deletion_alone)
    found = validate()
    assert not found["passed"]
    assert any("blob" in reason for reason in found["failed_because"])


def test_a_sample_is_cut_with_all_of_its_rows():
    images, labels = tiny.images(5), np.arange(5)
    sample = Sample(tiny.subject("cnn"), images, labels, labels, np.ones((5, 8, 8)), None)
    first = sample.first(2)
    lengths = [
        len(value)
        for field in dataclasses.fields(first)
        if hasattr(value := getattr(first, field.name), "__len__")
    ]
    assert lengths == [2, 2, 2, 2]
