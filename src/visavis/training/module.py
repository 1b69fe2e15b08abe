"""The LightningModule: loss, metrics, optimiser, schedule."""

import contextlib
from typing import Any

import lightning
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from visavis.config import OptimConfig
from visavis.data.batches import Batch, EvaluationBatches, Held, MixedBatch, TrainingBatches
from visavis.errors import DivergedError
from visavis.models import Model
from visavis.training import hardware
from visavis.training.optim import learning_rate_factor, optimizer
from visavis.training.ranks import ALONE, Ranks

Split = tuple[Held, Int64[Tensor, " _"]]
"""uint8 pixels and, on the device, labels."""


class Classifier(lightning.LightningModule):
    """Trains `model` on `training` and watches `validation`.

    A step never waits for the device: loss and hits are summed there and logged once an epoch.

    In several processes, each computes its part of every batch; the sums are added up.

    Args:
        validation: the part of it that this process computes.
        compiled: run the training step through torch.compile.
        dtype: of the matrix products under autocast, and of the optimiser's.
    """

    def __init__(
        self,
        model: Model,
        config: OptimConfig,
        *,
        training: Split,
        validation: Split,
        seed: int,
        compiled: bool = False,
        dtype: torch.dtype = torch.float32,
        ranks: Ranks = ALONE,
    ) -> None:
        super().__init__()
        self.model = model
        self.ranks = ranks
        self.config = config
        self.image_side = training[0].shape[-1]
        self.seed = seed
        self.dtype_of_products = dtype
        self._training, self._validation = training, validation
        # A function, not a module: the state dict keeps the plain model's names.
        self.training_forward = torch.compile(model.forward) if compiled else model.forward
        self._sums = {"train": torch.zeros(3), "val": torch.zeros(3)}  # loss, hits, images
        self._finite_steps = torch.zeros(())  # of this epoch, before the loss diverged

    @property
    def steps(self) -> int:
        """Training steps in all epochs together."""
        return self.config.epochs * len(self._batches(0))

    def train_dataloader(self) -> TrainingBatches:
        """This epoch's batches; the Trainer asks again each epoch."""
        return self._batches(self.current_epoch)

    def _batches(self, epoch: int) -> TrainingBatches:
        parts = self.ranks._asdict()
        return TrainingBatches(*self._training, self.config, seed=self.seed, epoch=epoch, **parts)

    def val_dataloader(self) -> EvaluationBatches:
        """The validation images."""
        return EvaluationBatches(*self._validation)

    def on_train_epoch_start(self) -> None:
        """Start the epoch's sums, and the random numbers that a model draws, such as dropout's.

        By the epoch, so that a resumed training draws what an uninterrupted one does.
        """
        torch.manual_seed((self.seed * 100_003 + self.current_epoch) * 1009 + self.ranks.rank)
        self._sums = {name: torch.zeros(3, device=self.device) for name in self._sums}
        self._finite_steps = torch.zeros((), device=self.device)

    def training_step(self, batch: MixedBatch, index: int) -> Float[Tensor, ""]:
        images, labels, others, mixed = batch
        with attention_for_training(self.device):
            logits = self.training_forward(hardware.channels_last(images)).float()
        smoothing = self.config.label_smoothing
        loss = mixed_losses(logits, labels, others, mixed, smoothing=smoothing).mean()
        own, other = ((logits.argmax(dim=1) == y).float() for y in (labels, others))
        self._add("train", loss.detach(), torch.lerp(own, other, mixed).sum(), len(labels))
        self._finite_steps += self._sums["train"][0].isfinite()
        return loss

    def validation_step(self, batch: Batch, index: int) -> None:
        images, labels = batch
        logits = self.model(hardware.channels_last(images)).float()
        hits = (logits.argmax(dim=1) == labels).sum()
        self._add("val", F.cross_entropy(logits, labels), hits, len(labels))

    def _add(self, name: str, loss: Tensor, hits: Tensor, n: int) -> None:
        self._sums[name] += torch.stack([loss * n, hits, torch.full_like(loss, n)])

    def on_validation_start(self) -> None:
        """Give all processes the batch norms' running averages of rank 0, which it also saves."""
        if self.ranks.world_size > 1:
            for buffer in self.model.buffers():
                torch.distributed.broadcast(buffer, src=0)

    def on_validation_epoch_end(self) -> None:
        """Log the epoch's means, and stop before a checkpoint of a broken model is written.

        Raises:
            DivergedError: the loss is not finite.
        """
        self.log("learning_rate", self.trainer.optimizers[0].param_groups[-1]["lr"])
        for name, own in self._sums.items():
            sums = self.trainer.strategy.reduce(own, reduce_op="sum")
            loss, hits, n = sums.tolist()
            self.log_dict({f"{name}/loss": loss / n, f"{name}/accuracy": hits / n})
            if not torch.isfinite(sums).all():
                raise DivergedError(self._diverged(name))

    def _diverged(self, name: str) -> str:
        """When the loss of the training or validation images became NaN, and what to do."""
        epoch, steps = self.current_epoch + 1, len(self._batches(self.current_epoch))
        step = min(int(self._finite_steps) + 1, steps)
        place = f"in step {step} of {steps} in epoch {epoch}"
        if name == "val":
            place = f"on the validation images after epoch {epoch}"
        share = learning_rate_factor(
            (epoch - 1) * steps + step - 1,
            steps=self.steps,
            warmup_fraction=self.config.warmup_fraction,
        )
        rates = f"{share * self.config.learning_rate:.2g}"
        if muon := self.config.muon_learning_rate:
            rates += f", and {share * muon:.2g} for Muon's matrices"
        return (
            f"training diverged: the loss is not a number {place}, at a learning rate of {rates}; "
            "epochs before it are kept. Lower the learning rates (--cnn.optim.…, --vit.optim.… or "
            "--optim.…) and use a new --out"
        )

    def configure_optimizers(self) -> Any:
        """Muon and AdamW under one schedule, stepped every batch."""
        steps, warmup = self.steps, self.config.warmup_fraction
        muon = optimizer(self.model, self.config, dtype=self.dtype_of_products)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            muon, lambda step: learning_rate_factor(step, steps=steps, warmup_fraction=warmup)
        )
        return {"optimizer": muon, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def attention_for_training(device: torch.device) -> contextlib.AbstractContextManager[None]:
    """On a CPU, the math backend of `scaled_dot_product_attention`; elsewhere PyTorch chooses.

    Of a step with the flash backend it takes half the time in bf16, and in float32 at most a tenth
    more (docs/benchmarks.md).
    """
    if device.type != "cpu":
        return contextlib.nullcontext()
    return sdpa_kernel(SDPBackend.MATH)


def mixed_losses(
    logits: Float[Tensor, "n classes"],
    labels: Int64[Tensor, " n"],
    others: Int64[Tensor, " n"],
    mixed: Float[Tensor, " n"],
    *,
    smoothing: float,
) -> Float[Tensor, " n"]:
    """Cross-entropy where a fraction `mixed` of each image is of another, of class `others`."""
    own, other = (
        F.cross_entropy(logits, classes, label_smoothing=smoothing, reduction="none")
        for classes in (labels, others)
    )
    return torch.lerp(own, other, mixed)
