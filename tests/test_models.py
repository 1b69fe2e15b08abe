import dataclasses
import json
import struct

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from visavis.models.linear import PairedLinear

from visavis import models
from visavis.attribution.grad_cam import default_layer
from visavis.config import CNNConfig, ViTConfig
from visavis.errors import CheckpointError
from visavis.models.vit import Block, SelfAttention, sincos_positions

SMALL_CNN = CNNConfig(widths=(8, 16, 16))
SMALL_VIT = ViTConfig(width=32, depth=3, heads=4)


def test_attention_equals_torchs():
    torch.manual_seed(0)
    attention = SelfAttention(24, 4, grid=3)
    nn.init.normal_(attention.offset_bias)
    tokens = torch.randn(2, 10, 24)
    qkv = attention.query_key_value(tokens).view(2, 10, 2, 3, 2, 6)
    q, k, v = qkv.permute(3, 0, 2, 4, 1, 5).reshape(3, 2, 4, 10, 6)
    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=attention.bias(10))
    expected = expected.transpose(1, 2).reshape(2, 10, 24)
    torch.testing.assert_close(attention(tokens), attention.output(expected))


def test_block_equals_torchs_pre_norm_encoder_layer():
    torch.manual_seed(0)
    block = Block(24, 4, 48, grid=3)
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.3)
    layer = nn.TransformerEncoderLayer(
        24, 4, 48, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )
    ours = block.state_dict()
    for name, module in block.named_modules():
        if isinstance(module, PairedLinear):
            ours[f"{name}.weight"] = module.weights()
    for kind in ("weight", "bias"):  # torch has the queries of all heads first
        halves = ours[f"attention.query_key_value.{kind}"].unflatten(0, (2, 3, -1))
        ours[f"attention.query_key_value.{kind}"] = halves.transpose(0, 1).flatten(0, 2)
    names = {
        "attention.query_key_value": "self_attn.in_proj_",
        "attention.output": "self_attn.out_proj.",
        "feed_forward.expand": "linear1.",
        "feed_forward.contract": "linear2.",
        "norm1": "norm1.",
        "norm2": "norm2.",
    }
    layer.load_state_dict(
        {
            theirs + kind: ours[f"{name}.{kind}"]
            for name, theirs in names.items()
            for kind in ("weight", "bias")
        }
    )
    tokens = torch.randn(2, 10, 24)
    bias = block.attention.bias(10).repeat(2, 1, 1)  # torch wants one for each image and head
    torch.testing.assert_close(block(tokens), layer(tokens, src_mask=bias), atol=1e-5, rtol=1e-5)


def test_the_attention_bias_is_that_of_the_offset_between_two_patches():
    """The second head of a pair has the first one's, mirrored."""
    attention = SelfAttention(8, 2, grid=3)
    torch.manual_seed(0)
    nn.init.normal_(attention.offset_bias)
    bias, mirrored = attention.bias(10)
    assert (attention.bias(10)[:, 0] == 0).all()  # what the class token reads
    assert (attention.bias(10)[:, :, 0] == 0).all()  # and what is read of it
    for reads in range(9):
        for read in range(9):
            down, right = read // 3 - reads // 3, read % 3 - reads % 3
            assert bias[1 + reads, 1 + read] == attention.offset_bias[0, 2 + down, 2 + right]
            assert mirrored[1 + reads, 1 + read] == attention.offset_bias[0, 2 + down, 2 - right]


def test_heads_start_by_turns_on_the_nine_patches_around_their_own():
    model = models.build(ViTConfig(width=32, depth=3, heads=4))
    middle = 4 * 8 + 4
    looked_at = []
    for block in model.blocks:
        weights = block.attention.softmax(block.attention.bias(65))[:, 1 + middle, 1:]
        assert (weights.amax(dim=1) > 0.4).all()
        looked_at += weights.argmax(dim=1).tolist()
    # Each of those in the middle is its own mirror image.
    assert sorted(looked_at) == [
        (4 + row) * 8 + 4 + column for row in (-1, 0, 1) for column in (-1, 0, 0, 1)
    ]


def test_a_smaller_square_takes_the_positions_in_the_middle():
    model = models.build(SMALL_VIT).eval()
    nn.init.zeros_(model.patch_embedding.projection.weight)
    nn.init.zeros_(model.patch_embedding.projection.bias)
    model.blocks = nn.Identity()
    whole, inner, odd = (model.features(torch.zeros(1, 3, side, side))[0] for side in (32, 24, 28))
    grid = whole[1:].view(8, 8, 32)
    assert torch.equal(inner[1:].view(6, 6, 32), grid[1:7, 1:7])
    assert torch.equal(odd[1:].view(7, 7, 32), grid[:7, :7])
    assert torch.equal(inner[0], whole[0])


@pytest.mark.parametrize(
    "config",
    [
        CNNConfig(),
        SMALL_CNN,
        ViTConfig(),
        dataclasses.replace(SMALL_VIT, positions="sincos"),
        dataclasses.replace(SMALL_VIT, patch_size=8, mlp_ratio=3.5),
    ],
)
def test_parameter_count_equals_the_closed_form(config):
    model = models.build(config)
    assert sum(p.numel() for p in model.parameters()) == models.parameter_count(config)


def test_the_counts_written_out_by_hand():
    # 13 * 24 + 9 / 2 (24*8 + 2*8*8 + 8*16 + 2*16*16 + 16*16 + 2*16*16) + 6 * 40 + 17 * 10
    assert models.parameter_count(SMALL_CNN) == 312 + 7_776 + 240 + 170
    # patches 49*16, class 32, positions 65*32, 3 blocks (2*1024 + 32*64 + 9*32 + 64
    # + 2*15*15), 64, 33*10
    assert models.parameter_count(SMALL_VIT) == 784 + 32 + 2080 + 3 * (4448 + 450) + 64 + 330


def test_explanation_grids_are_8_by_8():
    images = torch.rand(2, 3, 32, 32)
    cnn, seen = models.build(SMALL_CNN), []
    cnn.get_submodule(default_layer(cnn)).register_forward_hook(
        lambda _module, _inputs, output: seen.append(output.shape)
    )
    cnn(images)
    assert seen == [(2, 16, 8, 8)]
    assert models.build(SMALL_VIT).features(images).shape == (2, 1 + 8 * 8, 32)


@pytest.mark.parametrize("side", [24, 32])
def test_what_is_left_out_of_the_last_block_changes_nothing(side):
    torch.manual_seed(0)
    model = models.build(SMALL_VIT)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    images, rows = torch.rand(3, 3, side, side), []
    hook = model.blocks[-1].attention.softmax.register_forward_hook(
        lambda _module, _inputs, weights: rows.append(weights.shape[2])
    )
    logits, gradients = [], []
    for _ in range(2):
        logits.append(model(images))
        loss = logits[-1].square().sum()
        weights = list(model.parameters())
        # The last block's offset biases have none: they are of patches, and only the class token
        # reads there.
        gradients.append(torch.autograd.grad(loss, weights, materialize_grads=True))
        model.eval()  # then with everything in it
    assert rows == [1, 1 + (side // 4) ** 2]
    torch.testing.assert_close(*logits)
    hook.remove()
    with torch.no_grad():  # nobody explains it: without the patches again
        torch.testing.assert_close(model(images), logits[1])
    for short, full in zip(*gradients, strict=True):
        torch.testing.assert_close(short, full, atol=1e-4, rtol=1e-4)


def test_patch_tokens_read_their_own_patch_and_no_other():
    embedding = models.build(SMALL_VIT).patch_embedding
    images = torch.zeros(1, 3, 32, 32)
    before = embedding(images)
    images[:, :, 8:12, 20:24] = 1  # row 2, column 5 of the grid
    changed = (embedding(images) != before).any(dim=2).squeeze(0)
    assert changed.nonzero().tolist() == [[2 * 8 + 5]]


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
    first, second, _ = models.build(SMALL_VIT).blocks
    a, b = first.attention.query_key_value.weight, second.attention.query_key_value.weight
    assert (a - b).abs().mean() > 0.01


def test_whitening_makes_the_first_layer_uncorrelated():
    torch.manual_seed(0)
    smooth = F.avg_pool2d(torch.rand(200, 3, 36, 36), 5, stride=1)  # neighbours alike
    model = models.build(SMALL_CNN)
    models.fit_input(model, smooth)
    assert smooth.mean().item() == pytest.approx(model.normalize.mean.mean().item(), abs=1e-6)
    outputs = model.whitening(model.normalize(smooth)).transpose(0, 1).flatten(1)
    correlation = torch.corrcoef(torch.cat([outputs[:6], outputs[12:18]]))
    assert (correlation - torch.eye(12)).abs().max() < 0.05
    torch.testing.assert_close(outputs[6:12], -outputs[:6])
    torch.testing.assert_close(model.whitening.weight[12:], model.whitening.weight[:12].flip(3))


def test_grey_images_can_be_whitened():
    """Colours that never differ have no variance, and no directions of their own."""
    model = models.build(SMALL_CNN)
    grey = torch.rand(50, 1, 32, 32).expand(-1, 3, -1, -1)
    models.fit_input(model, grey)
    assert model.whitening.weight.isfinite().all()
    torch.testing.assert_close(model.whitening.weight[12:], model.whitening.weight[:12].flip(3))


@pytest.mark.parametrize("config", [SMALL_CNN, SMALL_VIT])
def test_saved_and_loaded_models_agree_and_loading_draws_nothing(tmp_path, config):
    torch.manual_seed(1)
    model = models.build(config).eval()
    nn.init.normal_(model.head.weight)
    images = torch.rand(4, 3, 32, 32)
    models.save(model, tmp_path / "weights.safetensors")
    state = torch.get_rng_state()
    loaded = models.load(config, tmp_path / "weights.safetensors")
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(loaded(images), model(images))
    assert models.config_from_json(models.config_to_json(config)) == config


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "weights.safetensors"
    models.save(models.build(SMALL_CNN), path)
    return path


def test_weights_of_another_shape_name_what_differs(weights):
    with pytest.raises(CheckpointError, match=r"stages\.0\.conv1\.weight"):
        models.load(CNNConfig(widths=(16, 16, 16)), weights)


def test_truncated_weights_are_refused(weights):
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="damaged"):
        models.load(SMALL_CNN, weights)


@pytest.mark.parametrize(
    "start", [b"", b"\x10", struct.pack("<Q", 2**60), struct.pack("<Q", 50) + b"x" * 60]
)
def test_a_file_that_is_no_weights_file_is_refused(weights, start):
    weights.write_bytes(start)
    with pytest.raises(CheckpointError, match="damaged"):
        models.load(SMALL_CNN, weights)


def test_overlapping_tensors_are_refused(weights):
    content = weights.read_bytes()
    size = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + size])
    tensors = sorted(key for key in header if key != "__metadata__")
    header[tensors[1]]["data_offsets"] = header[tensors[0]]["data_offsets"]
    text = json.dumps(header).encode()
    weights.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + size :])
    with pytest.raises(CheckpointError):
        models.load(SMALL_CNN, weights)


def test_nan_weights_are_refused(weights):
    model = models.build(SMALL_CNN)
    nn.init.constant_(model.head.bias, float("nan"))
    models.save(model, weights)
    with pytest.raises(CheckpointError, match=r"NaN or infinity in head\.bias"):
        models.load(SMALL_CNN, weights)


@pytest.mark.parametrize("values", [{}, {"kind": "resnet"}, {"kind": "cnn", "depth": 3}])
def test_a_config_that_describes_no_model_is_refused(values):
    with pytest.raises(CheckpointError, match=r"config\.json"):
        models.config_from_json(values)


def test_the_patch_embedding_starts_from_whitened_patches():
    torch.manual_seed(0)
    smooth = F.avg_pool2d(torch.rand(400, 3, 36, 36), 5, stride=1)
    model = models.build(dataclasses.replace(SMALL_VIT, width=64))
    models.fit_input(model, smooth)
    tokens = model.patch_embedding(model.normalize(smooth)).flatten(0, 1)
    strengths = torch.linalg.svdvals(tokens.T @ tokens / len(tokens))
    # 48 directions of a patch in 64 channels: alike where there is signal, none in the rest
    assert strengths[0] < 1.1
    assert strengths[24] > 0.5
    assert strengths[48] < 1e-3
