"""What is observed of the models that people bring: of libraries, and written by hand.

Small versions with random weights: what the seam finds does not depend on size or training.
"""

import copy
import functools
import subprocess
import sys
import threading

import numpy as np
import pytest
import timm
import torch
import torchvision
import transformers
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.image import scale_cam_image
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn
from torch.nn import functional

import tiny
from visavis import attribution
from visavis.attribution import Subject
from visavis.attribution.recorded import RecordedAttention
from visavis.errors import ModelError

SIDE = 64
ATTENTION = {"attention", "rollout", "gradient_attention"}
GRADIENTS = {"grad_cam", "integrated_gradients", "occlusion", "layer_cam", "smooth_grad"}


class HandWritten(nn.Module):
    """Patches cut out by hand, a class token, attention with a softmax module."""

    def __init__(self, width=24, heads=4):
        super().__init__()
        self.heads = heads
        self.embed = nn.Linear(3 * 8 * 8, width)
        self.class_token = nn.Parameter(torch.randn(1, 1, width))
        self.positions = nn.Parameter(torch.randn(1, 65, width))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.qkv = nn.ModuleList(nn.Linear(width, 3 * width) for _ in range(2))
        self.softmax = nn.ModuleList(nn.Softmax(dim=-1) for _ in range(2))
        self.head = nn.Linear(width, 10)

    def forward(self, images):
        n = len(images)
        patches = images.unfold(2, 8, 8).unfold(3, 8, 8).permute(0, 2, 3, 1, 4, 5)
        patches = self.embed(patches.reshape(n, 64, -1))
        tokens = torch.cat([self.class_token.expand(n, -1, -1), patches], 1) + self.positions
        for norm, qkv, softmax in zip(self.norms, self.qkv, self.softmax, strict=True):
            q, k, v = qkv(norm(tokens)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
            weights = softmax(q @ k.mT * q.shape[-1] ** -0.5)
            tokens = tokens + (weights @ v).transpose(1, 2).flatten(2)
        return self.head(tokens[:, 0])


class HeadsInTheBatch(HandWritten):
    """The same with `torch.bmm`: matrices have three axes, and the batch holds all heads."""

    def forward(self, images):
        n = len(images)
        patches = images.unfold(2, 8, 8).unfold(3, 8, 8).permute(0, 2, 3, 1, 4, 5)
        patches = self.embed(patches.reshape(n, 64, -1))
        tokens = torch.cat([self.class_token.expand(n, -1, -1), patches], 1) + self.positions
        for norm, qkv in zip(self.norms, self.qkv, strict=True):
            qkv = qkv(norm(tokens)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
            q, k, v = qkv.flatten(1, 2)
            weights = torch.softmax(torch.bmm(q, k.mT) * q.shape[-1] ** -0.5, dim=-1)
            read = torch.bmm(weights, v).unflatten(0, (n, self.heads))
            tokens = tokens + read.transpose(1, 2).flatten(2)
        return self.head(tokens[:, 0])


class Encoder(nn.Module):
    """PyTorch's own encoder, read by average pooling."""

    def __init__(self, *, batch_first):
        super().__init__()
        self.batch_first = batch_first
        self.patches = nn.Conv2d(3, 24, 8, 8)
        layer = nn.TransformerEncoderLayer(24, 4, 48, batch_first=batch_first)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(24, 10)

    def forward(self, images):
        tokens = self.patches(images).flatten(2).transpose(1, 2)
        if self.batch_first:
            return self.head(self.encoder(tokens).mean(dim=1))
        return self.head(self.encoder(tokens.transpose(0, 1)).mean(dim=0))


def of_timm(name, **settings):
    small = {"img_size": SIDE, "patch_size": 8, "depth": 2, "embed_dim": 48, "num_heads": 3}
    return timm.create_model(name, num_classes=10, **small | settings)


def hugging_face():
    return transformers.ViTForImageClassification(
        transformers.ViTConfig(
            hidden_size=48,
            num_hidden_layers=2,
            num_attention_heads=3,
            intermediate_size=96,
            image_size=SIDE,
            patch_size=8,
            num_labels=10,
        )
    )


def of_torchvision():
    return torchvision.models.VisionTransformer(SIDE, 8, 2, 3, 48, 96, num_classes=10)


# How to build it; blocks, heads, tokens that are read; the deepest layer of Grad-CAM.
TRANSFORMERS = {
    "timm vit": (lambda: of_timm("vit_tiny_patch16_224"), [0], "blocks.1.norm1"),
    "timm distilled deit": (
        lambda: of_timm("deit_tiny_distilled_patch16_224"),
        [0, 1],
        "blocks.1.norm1",
    ),
    "timm registers, average pooling": (
        lambda: of_timm("vit_medium_patch16_reg4_gap_256"),
        list(range(4, 68)),
        "blocks",
    ),
    "timm eva02": (
        lambda: of_timm("eva02_tiny_patch14_224", use_rot_pos_emb=False),
        list(range(1, 65)),
        "norm",
    ),
    "torchvision vit": (of_torchvision, [0], "encoder.layers.encoder_layer_1.ln_1"),
    "hugging face vit": (hugging_face, [0], "vit.layers.1.layernorm_before"),
    "by hand": (HandWritten, [0], "norms.1"),
    "encoder": (lambda: Encoder(batch_first=True), list(range(64)), "encoder"),
    "encoder, tokens first": (lambda: Encoder(batch_first=False), list(range(64)), "encoder"),
}
# How to build it, side of the images, its scoring grid, and why it offers no attention.
OTHERS = {
    "timm resnet18": (lambda: timm.create_model("resnet18", num_classes=10), 64, 8, "no attention"),
    "timm convnext": (
        lambda: timm.create_model("convnext_atto", num_classes=10, depths=(1, 1, 1, 1)),
        224,
        7,
        "no attention",
    ),
    "timm swin": (
        lambda: timm.create_model(
            "swin_tiny_patch4_window7_224",
            num_classes=10,
            img_size=224,
            embed_dim=24,
            depths=(1, 1, 1, 1),
        ),
        224,
        7,
        "windows of the image",
    ),
    "torchvision resnet18": (
        lambda: torchvision.models.resnet18(num_classes=10),
        64,
        8,
        "no attention",
    ),
}


def images(n=2, side=SIDE, *, seed=0):
    return torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(seed))


@functools.cache
def built(name):
    """A model with random weights everywhere; a head of zeros would make every map zero."""
    build = {**TRANSFORMERS, **OTHERS}[name][0]
    torch.manual_seed(0)
    model = build().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():
                parameter.copy_(0.1 * torch.randn(parameter.shape))
    return model


@functools.cache
def observed(name, side=SIDE):
    return Subject(built(name), images(side=side))


def logits_of(output):
    return getattr(output, "logits", output)


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_what_is_found_in_a_transformer(name):
    _, read, layer = TRANSFORMERS[name]
    subject = observed(name)
    assert subject.lacks == {}
    assert (subject.blocks, subject.grid, subject.read) == (2, 8, read)
    assert subject.heads == (4 if name.startswith(("by hand", "encoder")) else 3)
    assert subject.default_layer == layer
    assert attribution.default_method(subject) == "integrated_gradients"
    for method in attribution.methods_for(subject):
        maps = attribution.explain(subject, images(), torch.tensor([1, 2]), method)
        assert maps.shape == (2, 8, 8) and torch.isfinite(maps).all() and maps.any()


@pytest.mark.parametrize("name", OTHERS)
def test_a_model_without_attention_over_the_image_says_so_and_offers_the_rest(name):
    _, side, grid, reason = OTHERS[name]
    subject = observed(name, side)
    assert subject.lacks.keys() == {"attention"} and reason in subject.lacks["attention"]
    assert subject.grid == grid
    methods = attribution.methods_for(subject)
    assert ATTENTION.isdisjoint(methods) and set(methods) >= GRADIENTS
    assert attribution.default_method(subject) == "grad_cam"
    for method in ("grad_cam", "integrated_gradients"):
        maps = attribution.explain(subject, images(3, side), torch.arange(3), method)
        assert maps.shape == (3, grid, grid) and torch.isfinite(maps).all() and maps.any()
    with pytest.raises(ValueError, match=reason):
        attribution.explain(subject, images(side=side), torch.tensor([1, 2]), "rollout")


def own_attention(name, model, shown):
    """The weights as each library gives them itself, by block."""
    if name.startswith("timm"):
        kept = []
        for block in model.blocks:
            block.attn.fused_attn = False
            block.attn.attn_drop.register_forward_hook(lambda _m, _i, out: kept.append(out))
        model(shown)
        return kept
    if name == "hugging face vit":
        model.set_attn_implementation("eager")
        return model(shown, output_attentions=True).attentions
    if name == "torchvision vit":
        kept = []
        for layer in model.encoder.layers:
            layer.self_attention.forward = functools.partial(
                keep_weights, layer.self_attention.forward, kept
            )
        model(shown)
        return kept
    kept = []
    for softmax in model.softmax:
        softmax.register_forward_hook(lambda _m, _i, out: kept.append(out))
    model(shown)
    return kept


def keep_weights(forward, kept, query, key, value, need_weights=False):
    output, weights = forward(query, key, value, need_weights=True, average_attn_weights=False)
    kept.append(weights)
    return output, None


@pytest.mark.parametrize(
    "name",
    [
        "timm vit",
        "timm distilled deit",
        "timm registers, average pooling",
        "torchvision vit",
        "hugging face vit",
        "by hand",
    ],
)
def test_attention_equals_the_librarys_own_way_of_getting_it(name):
    found = attribution.attention_weights(observed(name), images())
    other = copy.deepcopy(built(name))
    with torch.no_grad():
        expected = torch.stack(list(own_attention(name, other, images())))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found.sum(dim=-1), torch.ones(found.shape[:-1]))


@pytest.mark.parametrize("name", [name for name in TRANSFORMERS if name != "by hand"])
def test_gradients_of_attention_equal_finite_differences(name):
    """One weight of the last block is raised, as if the softmax had returned it."""
    model, shown = copy.deepcopy(built(name)).double(), images(1).double()
    row = observed(name).read[0]

    class Raised(RecordedAttention):
        """Adds `step` to one weight of the last block."""

        step = 0.0

        def _attend(self, query, key, value, *rest, **more):
            super()._attend(query, key, value, *rest, **more)
            if len(self.weights) == 2:
                self.weights[-1] = self.weights[-1].clone()
                self.weights[-1][0, 1, row, 5] += self.step
            return self.weights[-1] @ value

    def logit(step):
        with Raised(len(shown)) as recorded:
            recorded.step = step
            return logits_of(model(shown))[0, 3], recorded.weights

    value, weights = logit(0.0)
    (gradient,) = torch.autograd.grad(value, weights[-1])
    step = 1e-4
    with torch.no_grad():
        slope = (logit(step)[0] - logit(-step)[0]) / (2 * step)
    assert slope != 0
    torch.testing.assert_close(gradient[0, 1, row, 5], slope, rtol=1e-5, atol=1e-9)


RESHAPES = {
    "timm vit": lambda out: out[:, 1:].transpose(1, 2).unflatten(2, (8, 8)),
    "timm distilled deit": lambda out: out[:, 2:].transpose(1, 2).unflatten(2, (8, 8)),
    "timm registers, average pooling": lambda out: out[:, 4:].transpose(1, 2).unflatten(2, (8, 8)),
    "torchvision vit": lambda out: out[:, 1:].transpose(1, 2).unflatten(2, (8, 8)),
    "encoder": lambda out: out.transpose(1, 2).unflatten(2, (8, 8)),
    "timm resnet18": None,
    "timm convnext": None,
    "timm swin": lambda out: out.permute(0, 3, 1, 2),
    "torchvision resnet18": None,
}


@pytest.mark.parametrize("name", RESHAPES)
def test_grad_cam_equals_the_library_called_by_hand_with_the_right_reshape(name):
    side = OTHERS[name][1] if name in OTHERS else SIDE
    subject, shown = observed(name, side), images(side=side)
    targets = subject.predict(shown).argmax(dim=1)
    found = attribution.explain(subject, shown, targets, "grad_cam")
    layer = subject.model.get_submodule(subject.default_layer)
    cam = GradCAM(subject.model, [layer], reshape_transform=RESHAPES[name])
    try:
        expected = cam(shown, [ClassifierOutputTarget(c) for c in targets.tolist()])
    finally:
        cam.activations_and_grads.release()
    # It scales each map to [0, 1] and to the image's size, twice.
    by_us = scale_cam_image(scale_cam_image(found.numpy(), (side, side)))
    np.testing.assert_allclose(by_us, expected, atol=1e-5)
    assert expected.any()


def test_hooks_and_modes_are_as_before_also_after_an_error():
    model = tiny.model("vit").train()
    model.head.eval()
    fused = functional.scaled_dot_product_attention
    Subject(model, tiny.images(2))

    def fail(_):
        raise IndexError("from inside")

    model.norm.forward = fail
    with pytest.raises(ModelError, match=r"fails on images of 32 x 32 pixels.*IndexError"):
        Subject(model, tiny.images(2))
    assert tiny.hooks(model) == 0
    assert not torch.overrides._get_current_function_mode_stack()
    assert functional.scaled_dot_product_attention is fused
    assert model.training and not model.head.training
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


def assert_threads_find_what_one_finds(names, work):
    """`work` of each name ten times, all names at once, each in a thread of its own."""
    alone = {name: work(name) for name in names}
    found = {name: [] for name in names}

    def repeat(name):
        for _ in range(10):
            found[name].append(work(name))

    threads = [threading.Thread(target=repeat, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name in names:
        assert len(found[name]) == 10
        assert all(torch.equal(of, alone[name]) for of in found[name])


def test_two_threads_at_once_find_what_each_finds_alone():
    """Of encoders, where the fused product is replaced for the length of a call."""
    assert_threads_find_what_one_finds(
        ["torchvision vit", "encoder"],
        lambda name: attribution.attention_weights(observed(name), images()),
    )


@pytest.mark.fault(36)
def test_threads_with_one_model_find_what_one_finds_and_leave_it_as_it_was():
    model = HandWritten().train()
    subject, classes = Subject(model, images()), torch.tensor([1, 2])
    assert_threads_find_what_one_finds(
        ["grad_cam", "rollout", "gradient_attention"],
        lambda name: attribution.explain(subject, images(), classes, name),
    )
    assert model.training and all(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("heads", [1, 4])
def test_heads_that_are_part_of_the_batch_give_the_same_maps(heads):
    torch.manual_seed(0)
    apart, merged = HandWritten(heads=heads).eval(), HeadsInTheBatch(heads=heads).eval()
    merged.load_state_dict(apart.state_dict())
    subjects, classes = [Subject(model, images()) for model in (apart, merged)], [1, 2]
    assert subjects[0].layers == subjects[1].layers and not subjects[1].lacks
    assert (subjects[1].blocks, subjects[1].heads) == (2, heads)
    for method in ("rollout", "gradient_attention", "grad_cam"):
        found = [
            attribution.explain(subject, images(), torch.tensor(classes), method)
            for subject in subjects
        ]
        torch.testing.assert_close(*found)


class Shuffled(HandWritten):
    """Reads the image's patches column by column."""

    def forward(self, images):
        return super().forward(images.transpose(2, 3))


def test_patches_that_do_not_follow_the_image_are_refused_unless_the_caller_says_how_they_lie():
    torch.manual_seed(0)
    model = Shuffled().eval()
    subject = Subject(model, images())
    assert "row by row" in subject.lacks["attention"]

    def to_grid(tokens):
        return tokens[:, 1:].transpose(1, 2).unflatten(2, (8, 8)).transpose(2, 3)

    subject = Subject(model, images(), tokens_to_grid=to_grid)
    assert subject.lacks == {}
    straight = HandWritten().eval()
    straight.load_state_dict(model.state_dict())
    expected = attribution.explain(
        Subject(straight, images()), images().transpose(2, 3), torch.tensor([1, 2]), "rollout"
    )
    found = attribution.explain(subject, images(), torch.tensor([1, 2]), "rollout")
    torch.testing.assert_close(found.transpose(1, 2), expected)


class Broken(nn.Module):
    """Global average of the image, and one fault."""

    def __init__(self, fault):
        super().__init__()
        self.fault = fault
        self.head = nn.Linear(3, 10)

    def forward(self, images):
        logits = self.head(images.mean(dim=(2, 3)))
        return {
            "an object": {"logits": logits},
            "three axes": logits[None],
            "nan": logits * float("nan"),
            "fewer rows": logits[:1],
            "mixes": logits + logits.mean(dim=0),
            "random": logits + torch.rand_like(logits),
        }[self.fault]


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("an object", "returns a dict; it must return a tensor of logits"),
        ("three axes", r"returns a tensor of shape \(1, 2, 10\)"),
        ("nan", "NaN or infinite"),
        ("fewer rows", "1 rows of logits for 2 images"),
        ("mixes", "depend on the other images of the batch"),
        ("random", "differ between two calls"),
    ],
)
def test_what_is_no_classifier_is_refused_in_one_sentence(fault, message):
    with pytest.raises(ModelError, match=message) as caught:
        Subject(Broken(fault), images())
    assert "\n" not in str(caught.value)


def test_what_are_no_images_is_refused_in_one_sentence():
    """In a process of its own, since here the shapes in signatures are checked as well."""
    script = """
import numpy as np, torch
from visavis import Subject
from visavis.errors import ModelError
model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, 10))
images = torch.rand(2, 3, 32, 32)
for wrong in (images[:, :1], (255 * images).byte(), 255 * images, images.numpy(), "cat.jpg"):
    try:
        Subject(model, wrong)
    except ModelError as error:
        print(error)
"""
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    messages = found.stdout.splitlines()
    assert len(messages) == 5, found.stderr
    assert all(
        of.startswith("images must be a floating-point tensor (n, 3, side") for of in messages
    )
    for of, what in zip(
        messages, ("(2, 1, 32", "uint8", "other values", "numpy", "str"), strict=True
    ):
        assert what in of


def test_a_model_without_weights_is_refused():
    with pytest.raises(ModelError, match="on the meta device"):
        Subject(tiny.model("cnn").to("meta"), tiny.images(2))


@pytest.mark.parametrize(
    ("arrange", "message"),
    [
        (lambda tokens: tokens[:, 1:], r"it returned \(2, 64, \d+\)"),
        (lambda tokens: tokens.view(7, 7), "tokens_to_grid fails with RuntimeError"),
        (lambda tokens: None, "it returned NoneType"),
    ],
)
def test_tokens_that_are_arranged_as_no_grid_are_refused_in_one_sentence(arrange, message):
    with pytest.raises(ModelError, match=message):
        tiny_subject(tokens_to_grid=arrange)


def tiny_subject(**settings):
    return Subject(tiny.model("vit"), tiny.images(2), **settings)


def test_layers_that_grad_cam_cannot_use_are_refused_with_the_reason():
    for layer, reason in (
        ("blocks.1.norm2", "gradient of zero"),
        ("head", "square grid"),
        ("nowhere", "is not a module"),
    ):
        with pytest.raises(ModelError, match=f"layer {layer} .*({reason})"):
            tiny_subject(layers=[layer])
    assert list(tiny_subject(layers=["blocks.0"]).layers) == ["blocks.0"]


def test_a_normalisation_is_wrapped_around_the_model_and_its_mean_fills_masked_regions():
    model, mean, std = tiny.model("cnn"), (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)
    subject = Subject(model, tiny.images(2), mean=mean, std=std)
    shown = tiny.images(2)
    by_hand = (shown - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(std).view(1, 3, 1, 1)
    torch.testing.assert_close(subject.predict(shown), model(by_hand).detach())
    assert subject.fill.flatten().tolist() == pytest.approx(mean)


def test_a_grid_that_does_not_divide_the_image_is_refused():
    with pytest.raises(ModelError, match="a grid of 7 x 7 cells does not divide images of 32 x 32"):
        tiny_subject(grid=7)
    assert tiny_subject(grid=4).cell_side == 8
