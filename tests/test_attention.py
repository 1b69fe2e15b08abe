import numpy as np
import pytest
import torch
from torch.nn import functional

import tiny
from visavis import attribution
from visavis.attribution import attention
from visavis.attribution.attention import (
    attention_weights,
    gradient_attention,
    patch_attention,
    rollout,
)
from visavis.attribution.degenerate import degenerate_reasons
from visavis.attribution.recorded import RecordedAttention
from visavis.metrics import localization


def attention_by_hand(model, images):
    """Every block's weights, from the layers' parameters and the paper's formula."""
    found = []
    tokens = model.patch_embedding(model.normalize(images)).flatten(2).transpose(1, 2)
    start = model.class_token.expand(len(images), 1, -1)
    tokens = torch.cat([start, tokens], dim=1) + model.positions
    for block in model.blocks:
        heads, width = block.attention.heads, tokens.shape[-1]
        qkv = block.attention.query_key_value(block.norm1(tokens))
        q, k, v = qkv.unflatten(2, (3, heads, width // heads)).permute(2, 0, 3, 1, 4)
        weights = (q @ k.mT / (width // heads) ** 0.5).exp()
        weights = weights / weights.sum(dim=-1, keepdim=True)
        fused = functional.scaled_dot_product_attention(q, k, v)
        torch.testing.assert_close(weights @ v, fused)
        tokens = tokens + block.attention.output(fused.transpose(1, 2).flatten(2))
        tokens = tokens + block.feed_forward(block.norm2(tokens))
        found.append(weights)
    torch.testing.assert_close(model.head(model.norm(tokens[:, 0])), model(images))
    return torch.stack(found)


def test_weights_are_those_of_the_true_forward_pass_through_all_blocks():
    model, images = tiny.model("vit"), tiny.images(3)
    weights = attention_weights(tiny.subject(model), images)
    assert weights.shape == (2, 3, 2, 65, 65)
    torch.testing.assert_close(weights, attention_by_hand(model, images).detach())
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(2, 3, 2, 65))


def test_maps_do_not_depend_on_the_batch_or_on_the_callers_mode():
    model, images, classes = tiny.model("vit"), tiny.images(5), torch.arange(5)
    for method in attribution.methods_for(tiny.subject(model)):
        expected = attribution.explain(tiny.subject(model), images, classes, method)
        assert expected.shape == (5, 8, 8)
        assert not expected.requires_grad
        for i in range(5):
            single = attribution.explain(
                tiny.subject(model), images[i : i + 1], classes[i : i + 1], method
            )
            torch.testing.assert_close(single[0], expected[i], atol=1e-5, rtol=1e-4)
        with torch.inference_mode():
            inside = attribution.explain(
                tiny.subject(model), images.clone(), classes.clone(), method
            )
        assert torch.equal(inside, expected)


@torch.no_grad()
def test_logits_with_recording_equal_those_without():
    model, images = tiny.model("vit"), tiny.images(3)
    expected = model(images)
    with RecordedAttention(len(images)) as recorded:
        logits = model(images)
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)
    assert len(recorded.weights) == 2
    model(images)  # outside, nothing is recorded
    assert len(recorded.weights) == 2


def test_rollout_of_two_tokens_computed_by_hand(monkeypatch):
    first = torch.tensor([[[0.5, 0.5], [0.1, 0.9]], [[0.7, 0.3], [0.3, 0.7]]])  # two heads
    second = torch.tensor([[[0.4, 0.6], [0.4, 0.6]], [[0.6, 0.4], [0.4, 0.6]]])
    # Means of heads [[.6 .4] [.2 .8]] and [[.5 .5] [.4 .6]]; with half the identity
    # [[.8 .2] [.1 .9]] and [[.75 .25] [.2 .8]]; second times first, row 0, column 1:
    expected = 0.75 * 0.2 + 0.25 * 0.9
    subject = tiny.subject("vit")
    subject._tokens, subject._prefix = 2, 1
    monkeypatch.setattr(
        attention, "attention_weights", lambda *_: torch.stack([first, second])[:, None]
    )
    monkeypatch.setattr(subject, "tokens_on_grid", lambda tokens: tokens[:, 1:, :, None])
    found = rollout(subject, tiny.images(1))
    torch.testing.assert_close(found, torch.tensor([[[expected]]]))


def test_rollout_of_rows_that_sum_to_one_keeps_the_sum():
    to_patches = rollout(tiny.subject("vit"), tiny.images(2)).sum(dim=(1, 2))
    assert ((to_patches > 0.5) & (to_patches < 1)).all()


def test_patch_attention_is_the_class_tokens_row_on_the_grid():
    subject = tiny.subject("vit")
    weights = attention_weights(subject, tiny.images(2))
    maps = patch_attention(subject, weights)
    assert maps.shape == (2, 2, 2, 8, 8)
    assert maps[1, 0, 1, 2, 3] == weights[1, 0, 1, 0, 1 + 2 * 8 + 3]


def test_gradient_attention_equals_an_independent_implementation():
    """Head by head and image by image, with the gradient of each weight kept by the tensor."""
    model, images = tiny.model("vit"), tiny.images(2)
    for image, label in zip(images, (3, 8), strict=True):
        with RecordedAttention(1) as recorded:
            logit = model(image[None])[0, label]
        kept = recorded.weights
        for weights in kept:
            weights.retain_grad()
        logit.backward()
        first, second = (
            sum((w.grad[0, h] * w[0, h].detach()).relu() for h in range(2)) / 2 for w in kept
        )
        # R = (1 + second)(1 + first)
        expected = first + second + second @ first
        found = gradient_attention(tiny.subject(model), image[None], torch.tensor([label]))
        torch.testing.assert_close(found.flatten(), expected[0, 1:])


def test_only_class_specific_methods_depend_on_the_target_class():
    model, images = tiny.model("vit"), tiny.images(3)
    for method in attribution.methods_for(tiny.subject(model)):
        one, other = (
            attribution.explain(tiny.subject(model), images, torch.full((3,), c), method)
            for c in (2, 7)
        )
        assert torch.equal(one, other) != attribution.METHODS[method].class_specific


@pytest.mark.parametrize("method", ["attention", "rollout", "gradient_attention"])
def test_a_pass_that_does_not_go_through_each_block_once_is_an_error(method):
    subject = tiny.subject("vit")
    subject.model.blocks = subject.model.blocks[:-1]
    with pytest.raises(RuntimeError, match="computed attention 1 times instead of 2"):
        attribution.explain(subject, tiny.images(2), torch.tensor([0, 1]), method)


@pytest.mark.parametrize(
    "method",
    ["attention", "rollout", "gradient_attention", "integrated_gradients", "occlusion"],
)
@pytest.mark.parametrize("error", [None, "class", "model"])
@pytest.mark.fault(35)
def test_the_model_is_left_as_it_was_found(method, error, monkeypatch):
    model = tiny.model("vit").train()
    subject = tiny.subject(model)
    classes = torch.tensor([0, 10 if error == "class" else 1])

    def fail(_features):
        raise IndexError("from inside the model")

    if error == "model":
        monkeypatch.setattr(model.norm, "forward", fail)
    expected = {None: None, "class": ValueError, "model": IndexError}[error]
    if expected is None:
        attribution.explain(subject, tiny.images(2), classes, method)
    else:
        with pytest.raises(expected):
            attribution.explain(subject, tiny.images(2), classes, method)
    assert tiny.hooks(model) == 0
    assert not torch.overrides._get_current_function_mode_stack()
    assert all(module.training for module in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(
    ("method", "bar"),
    [("gradient_attention", 0.6), ("grad_cam", 0.3), ("attention", 0.2), ("rollout", 0.25)],
)
def test_a_planted_patch_is_found_by_trained_models_and_not_by_untrained_ones(method, bar):
    """On the mean of four: so small a ViT may also predict from the background."""
    images, labels, masks = tiny.planted(100, seed=999)
    seeds = range(4)
    taught = [tiny.taught("vit", steps=50, seed=s) for s in seeds]
    assert all((model(images).argmax(dim=1) == labels).float().mean() > 0.95 for model in taught)
    images, labels, masks = images[labels == 1], labels[labels == 1], masks[labels == 1]

    def found(models):
        shares = []
        for model in models:
            maps = attribution.explain(tiny.subject(model), images, labels, method).numpy()
            good = [reason is None for reason in degenerate_reasons(maps)]
            shares.append(localization.relevance_mass(maps[good], masks[good]))
        return np.concatenate(shares).mean()

    assert found(taught) > bar > 3 * masks.mean()
    # Random weights see that something stands out, but hardly look at it.
    config = tiny.TAUGHT_VIT_CONFIG
    assert found(tiny.model("vit", seed=s, config=config) for s in seeds) < 0.6 * bar


def test_wrong_arguments_are_errors():
    images, classes = tiny.images(2), torch.tensor([0, 1])
    with pytest.raises(ValueError, match="cannot explain this model: no attention was seen in it"):
        attribution.explain(tiny.subject("cnn"), images, classes, "rollout")
    with pytest.raises(ValueError, match="there is no method 'gradcam'"):
        attribution.explain(tiny.subject("vit"), images, classes, "gradcam")
    with pytest.raises(ValueError, match="only grad_cam and layer_cam take one"):
        attribution.explain(tiny.subject("vit"), images, classes, "rollout", layer="blocks.0.norm1")
    with pytest.raises(ValueError, match=r"on meta and the model is on cpu; use images\.to\('cpu"):
        attribution.explain(tiny.subject("vit"), images.to("meta"), classes, "attention")
    with pytest.raises(ValueError, match="classes must be"):
        attribution.explain(tiny.subject("vit"), images, torch.tensor([0, 10]), "attention")


@pytest.mark.parametrize("kind", ["cnn", "vit"])
@pytest.mark.parametrize("value", [0.0, 0.5, float("nan")])
@pytest.mark.fault(35)
def test_flat_images_give_a_finite_map_and_nan_a_degenerate_one(kind, value):
    model, images = tiny.model(kind), torch.full((1, 3, 32, 32), value)
    for method in attribution.methods_for(tiny.subject(model)):
        maps = attribution.explain(tiny.subject(model), images, torch.tensor([3]), method)
        if value != value:  # NaN
            assert degenerate_reasons(maps.numpy()) != [None]
        else:
            assert torch.isfinite(maps).all()
