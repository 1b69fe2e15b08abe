import functools
import json
import struct

import pytest
import timm.models.vision_transformer
import torch
import torch.nn.functional as F
from torch import nn

from visavis import models
from visavis.config import CNNConfig, ViTConfig
from visavis.errors import CheckpointError
from visavis.models.vit import Block, sincos_positions

SMALL_CNN = CNNConfig(widths=(8, 16, 16))
SMALL_VIT = ViTConfig(width=32, depth=3, heads=4)


def test_the_vit_is_timms_with_the_same_weights():
    torch.manual_seed(0)
    ours = models.build(SMALL_VIT, 10)
    theirs = timm.models.vision_transformer.VisionTransformer(
        img_size=32,
        patch_size=4,
        embed_dim=32,
        depth=3,
        num_heads=4,
        mlp_ratio=SMALL_VIT.mlp_ratio,
        num_classes=10,
        norm_layer=functools.partial(nn.LayerNorm, eps=1e-5),
    )
    for parameter in ours.parameters():
        nn.init.normal_(parameter, std=0.2)
    names = {
        "patch_embedding.": "patch_embed.proj.",
        "class_token": "cls_token",
        "positions": "pos_embed",
        ".attention.query_key_value.": ".attn.qkv.",
        ".attention.output.": ".attn.proj.",
        ".feed_forward.0.": ".mlp.fc1.",
        ".feed_forward.2.": ".mlp.fc2.",
    }
    weights = {}
    for name, value in ours.state_dict().items():
        for a, b in names.items():
            name = name.replace(a, b)
        if not name.startswith("normalize."):
            weights[name] = value
    theirs.load_state_dict(weights)
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(ours(images), theirs(ours.normalize(images)), atol=1e-4, rtol=1e-4)


def test_block_equals_torchs_pre_norm_encoder_layer():
    torch.manual_seed(0)
    block = Block(24, 4, 48)
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.3)
    layer = nn.TransformerEncoderLayer(
        24, 4, 48, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )
    names = {
        "attention.query_key_value": "self_attn.in_proj_",
        "attention.output": "self_attn.out_proj.",
        "feed_forward.0": "linear1.",
        "feed_forward.2": "linear2.",
        "norm1": "norm1.",
        "norm2": "norm2.",
    }
    layer.load_state_dict(
        {
            theirs + kind: block.state_dict()[f"{name}.{kind}"]
            for name, theirs in names.items()
            for kind in ("weight", "bias")
        }
    )
    tokens = torch.randn(2, 10, 24)
    torch.testing.assert_close(block(tokens), layer(tokens), atol=1e-5, rtol=1e-5)


def test_a_random_crop_takes_the_positions_in_the_middle():
    model = models.build(SMALL_VIT, 10)
    full, inner, odd = (model.central_positions(grid)[0] for grid in (8, 6, 7))
    grid = full[1:].view(8, 8, 32)
    assert torch.equal(full, model.positions[0])
    assert torch.equal(inner[1:].view(6, 6, 32), grid[1:7, 1:7])
    assert torch.equal(odd[1:].view(7, 7, 32), grid[:7, :7])
    assert torch.equal(inner[0], full[0])


@pytest.mark.parametrize("side", [24, 32])
@pytest.mark.parametrize("config", [SMALL_CNN, SMALL_VIT])
def test_models_take_full_images_and_random_crops(config, side):
    assert models.build(config, 10)(torch.rand(2, 3, side, side)).shape == (2, 10)


@pytest.mark.parametrize(("side", "grid"), [(40, 10), (64, 8), (96, 8), (120, 10), (256, 8)])
def test_larger_images_end_on_a_grid_of_about_8_by_8(side, grid):
    cnn, seen = models.build(SMALL_CNN, 3, side), []
    cnn.stages.register_forward_hook(lambda *given: seen.append(given[-1].shape[2:]))
    vit = models.build(ViTConfig(width=32, depth=1, heads=4, patch_size=side // 8), 3, side)
    images = torch.rand(9, 3, side, side)
    for model in (cnn, vit):
        models.fit_input(model, images)
        assert model(images).shape == (9, 3)
        assert model(images[..., : side // 4 * 3, : side // 4 * 3]).shape == (9, 3)
    assert seen[0] == (grid, grid)
    assert vit.grid == 8


def test_a_larger_stem_starts_from_the_strongest_directions():
    torch.manual_seed(0)
    smooth = F.avg_pool2d(torch.rand(50, 3, 70, 70), 7, stride=1)
    model = models.build(SMALL_CNN, 10, side=64)
    models.fit_input(model, smooth)
    outputs = model.stem(model.normalize(smooth)).transpose(0, 1).flatten(1)
    assert (outputs[:12].var(dim=1) - 1).abs().max() < 0.1
    torch.testing.assert_close(outputs[12:], -outputs[:12])


def test_fixed_positions_are_not_learned():
    learned, fixed = (
        models.build(ViTConfig(width=32, depth=1, heads=4, positions=kind), 10)
        for kind in ("learned", "sincos")
    )
    assert learned.positions.requires_grad and not fixed.positions.requires_grad


def test_the_cnn_is_explained_on_a_grid_of_8_by_8():
    cnn, seen = models.build(SMALL_CNN, 10), []
    cnn.get_submodule(models.explanation_layers(cnn)[-1]).register_forward_hook(
        lambda _module, _inputs, output: seen.append(output.shape)
    )
    cnn(torch.rand(2, 3, 32, 32))
    assert seen == [(2, 16, 8, 8)]


def test_patch_tokens_read_their_own_patch_and_no_other():
    embedding = models.build(SMALL_VIT, 10).patch_embedding
    images = torch.zeros(1, 3, 32, 32)
    before = embedding(images)
    images[:, :, 8:12, 20:24] = 1  # row 2, column 5 of the grid
    changed = (embedding(images) != before).any(dim=1)[0]
    assert changed.nonzero().tolist() == [[2, 5]]


def test_sincos_positions_tell_all_places_apart_and_rows_from_columns():
    positions = sincos_positions(8, 32)[0]
    assert (positions[0] == 0).all()
    distances = torch.cdist(positions[1:], positions[1:]) + 10 * torch.eye(64)
    assert distances.min() > 0.1
    grid = positions[1:].view(8, 8, 32)
    assert torch.equal(grid[3, 0, :16], grid[3, 7, :16])  # first half: the row
    assert torch.equal(grid[0, 3, 16:], grid[7, 3, 16:])  # second half: the column


def test_blocks_differ_at_initialisation():
    torch.manual_seed(0)
    first, second, _ = models.build(SMALL_VIT, 10).blocks
    a, b = first.attention.query_key_value.weight, second.attention.query_key_value.weight
    assert (a - b).abs().mean() > 0.01


def test_whitening_makes_the_first_layer_uncorrelated():
    torch.manual_seed(0)
    smooth = F.avg_pool2d(torch.rand(200, 3, 36, 36), 5, stride=1)  # neighbours alike
    model = models.build(SMALL_CNN, 10)
    models.fit_input(model, smooth)
    assert smooth.mean().item() == pytest.approx(model.normalize.mean.mean().item(), abs=1e-6)
    outputs = model.stem(model.normalize(smooth)).transpose(0, 1).flatten(1)
    assert (torch.corrcoef(outputs[:12]) - torch.eye(12)).abs().max() < 0.05
    torch.testing.assert_close(outputs[12:], -outputs[:12])


def test_grey_images_can_be_whitened():
    """Colours that never differ have no variance, and no directions of their own."""
    model = models.build(SMALL_CNN, 10)
    grey = torch.rand(50, 1, 32, 32).expand(-1, 3, -1, -1)
    models.fit_input(model, grey)
    assert model.stem.weight.isfinite().all()


@pytest.mark.parametrize("config", [SMALL_CNN, SMALL_VIT])
def test_saved_and_loaded_models_agree_and_loading_draws_nothing(tmp_path, config):
    torch.manual_seed(1)
    model = models.build(config, 10).eval()
    nn.init.normal_(model.head.weight)
    images = torch.rand(4, 3, 32, 32)
    models.save(model, tmp_path / "weights.safetensors")
    state = torch.get_rng_state()
    loaded = models.load(config, tmp_path / "weights.safetensors", 10)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(loaded(images), model(images))
    assert models.config_from_json(models.config_to_json(config)) == config


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "weights.safetensors"
    models.save(models.build(SMALL_CNN, 10), path)
    return path


@pytest.mark.fault(7)
def test_weights_of_another_shape_name_what_differs(weights):
    with pytest.raises(CheckpointError, match=r"stages\.0\.conv1\.weight"):
        models.load(CNNConfig(widths=(16, 16, 16)), weights, 10)


@pytest.mark.fault(3)
def test_truncated_weights_are_refused(weights):
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="damaged"):
        models.load(SMALL_CNN, weights, 10)


@pytest.mark.parametrize(
    "start", [b"", b"\x10", struct.pack("<Q", 2**60), struct.pack("<Q", 50) + b"x" * 60]
)
def test_a_file_that_is_no_weights_file_is_refused(weights, start):
    weights.write_bytes(start)
    with pytest.raises(CheckpointError, match="damaged"):
        models.load(SMALL_CNN, weights, 10)


@pytest.mark.fault(6)
def test_overlapping_tensors_are_refused(weights):
    content = weights.read_bytes()
    size = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + size])
    tensors = sorted(key for key in header if key != "__metadata__")
    header[tensors[1]]["data_offsets"] = header[tensors[0]]["data_offsets"]
    text = json.dumps(header).encode()
    weights.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + size :])
    with pytest.raises(CheckpointError):
        models.load(SMALL_CNN, weights, 10)


@pytest.mark.fault(6)
def test_nan_weights_are_refused(weights):
    model = models.build(SMALL_CNN, 10)
    nn.init.constant_(model.head.bias, float("nan"))
    models.save(model, weights)
    with pytest.raises(CheckpointError, match=r"NaN or infinity in head\.bias"):
        models.load(SMALL_CNN, weights, 10)


@pytest.mark.parametrize("values", [{}, {"name": "resnet"}, {"name": "cnn", "depth": 3}])
def test_a_config_that_describes_no_model_is_refused(values):
    with pytest.raises(CheckpointError, match=r"config\.json"):
        models.config_from_json(values)


def test_the_patch_embedding_starts_from_whitened_patches():
    torch.manual_seed(0)
    smooth = F.avg_pool2d(torch.rand(400, 3, 36, 36), 5, stride=1)
    model = models.build(ViTConfig(width=64, depth=1, heads=4), 10)
    models.fit_input(model, smooth)
    tokens = model.patch_embedding(model.normalize(smooth)).movedim(1, -1).flatten(0, 2)
    strengths = torch.linalg.svdvals(tokens.T @ tokens / len(tokens))
    # 48 directions of a patch in 64 channels: alike where there is signal, none in the rest
    assert strengths[0] < 1.1
    assert strengths[24] > 0.5
    assert strengths[48] < 1e-3
