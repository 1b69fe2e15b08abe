"""The LightningModule: loss, metrics, optimiser, schedule."""

from typing import Any

import lightning
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from visavis.config import OptimConfig
from visavis.errors import VisavisError
from visavis.loader import EvaluationBatches, TrainingBatches, cutmix
from visavis.models import Model
from visavis.optim import learning_rate_factor, optimizer

Batch = tuple[Float[Tensor, "n 3 h w"], Int64[Tensor, " n"]]
TrainingBatch = tuple[Float[Tensor, "n 3 h w"], Int64[Tensor, " n"], Int64[Tensor, " n"]]
"""Images, labels, and which of the training pictures they are."""
Split = tuple[Tensor, Tensor]
"""uint8 pixels (n, 3, 32, 32) and labels (n,), both on the device."""


class Classifier(lightning.LightningModule):
    """Trains `model` on `training` and watches `validation`; both stay resident on the device.

    Args:
        compiled: run the training step through torch.compile; not on a CPU, where it gains nothing.
        bf16: training runs in bf16, and so do the optimiser's matrix products.
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
        bf16: bool = False,
    ) -> None:
        super().__init__()
        self.model = model
        self.config = config
        self.seed = seed
        self.muon_dtype = torch.bfloat16 if bf16 else torch.float32
        self._training, self._validation = training, validation
        # No buffer: the state is the model's alone.
        self._losses = torch.full((len(training[1]),), torch.inf, device=training[1].device)
        # A function, not a module: the state keeps the plain model's names, and validation runs
        # the plain model, which spares a second compilation.
        self.training_forward = (
            torch.compile(model.forward, dynamic=False) if compiled else model.forward
        )

    @property
    def steps(self) -> int:
        """Training steps in all epochs together."""
        return sum(len(self._batches(epoch)) for epoch in range(self.config.epochs))

    @property
    def pictures_seen(self) -> int:
        """Over all epochs, each as often as it is seen."""
        batches = (self._batches(epoch) for epoch in range(self.config.epochs))
        return sum(len(epoch) * epoch.batch_size for epoch in batches)

    def first_batches(self) -> list[Float[Tensor, "b 3 h w"]]:
        """Pictures as the first epoch sees them, and the last, where that differs."""
        sides = {self.config.side(epoch): epoch for epoch in (0, self.config.epochs - 1)}
        batches = (self._batches(epoch) for epoch in sides.values())
        return [_channels_last(next(iter(batch))[0]) for batch in batches]

    def train_dataloader(self) -> TrainingBatches:
        """This epoch's batches; the Trainer asks anew each epoch."""
        return self._batches(self.current_epoch)

    def _batches(self, epoch: int) -> TrainingBatches:
        return TrainingBatches(
            *self._training, self.config, seed=self.seed, epoch=epoch, losses=self._losses
        )

    def val_dataloader(self) -> EvaluationBatches:
        """The validation pictures."""
        return EvaluationBatches(*self._validation)

    def on_train_batch_start(self, batch: TrainingBatch, index: int) -> None:
        """Free the gradients before the forward pass; Lightning frees them after it.

        They would lie between the blocks that the forward pass asks for again, and the memory that
        is kept would fall into smaller pieces (docs/benchmarks.md, Memory).
        """
        self.zero_grad()

    def training_step(self, batch: TrainingBatch, index: int) -> Float[Tensor, ""]:
        images, labels, chosen = batch
        foreign = torch.zeros(len(labels), device=labels.device)
        if fraction := self.config.mixed_fraction(self.current_epoch):
            images, foreign = cutmix(images, fraction, self._draws())
        logits = self.training_forward(_channels_last(images)).float()
        losses = mixed_losses(logits, labels, foreign, smoothing=self.config.label_smoothing)
        self._losses[chosen] = losses.detach()
        loss = losses.mean()
        if index % 20 == 0 and not torch.isfinite(loss):  # not every step: a GPU would wait for it
            raise self._diverged()
        answers = logits.detach().argmax(dim=1)
        own, other = ((answers == y).float() for y in (labels, labels.roll(1)))
        correct = torch.lerp(own, other, foreign).mean()
        values = {"train/loss": loss.detach(), "train/accuracy": correct}
        self.log_dict(values, on_step=False, on_epoch=True, batch_size=len(labels))
        rate = self.trainer.optimizers[0].param_groups[0]["lr"]
        self.log("learning_rate", rate, on_step=True, on_epoch=False)
        return loss

    def _draws(self) -> torch.Generator:
        """What this step draws from, the same after an interruption."""
        return torch.Generator().manual_seed((self.seed + 1) * 1_000_000_007 + self.global_step)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Who is easy is part of what a training goes on from."""
        checkpoint["losses"] = self._losses.cpu()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Read it back."""
        self._losses.copy_(checkpoint["losses"])

    def validation_step(self, batch: Batch, index: int) -> None:
        images, labels = batch
        logits = self.model(_channels_last(images)).float()
        values = {
            "val/loss": F.cross_entropy(logits, labels),
            "val/accuracy": (logits.argmax(dim=1) == labels).float().mean(),
        }
        self.log_dict(values, on_epoch=True, batch_size=len(labels))

    def on_validation_epoch_end(self) -> None:
        """Stop before a checkpoint of a broken model is written."""
        if not torch.isfinite(self.trainer.callback_metrics["val/loss"]):
            raise self._diverged()

    def configure_optimizers(self) -> Any:
        """Muon and AdamW under one schedule, stepped every batch."""
        steps = self.steps
        muon = optimizer(self.model, self.config, dtype=self.muon_dtype)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            muon,
            lambda step: learning_rate_factor(
                step, steps=steps, warmup_fraction=self.config.warmup_fraction
            ),
        )
        return {"optimizer": muon, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _diverged(self) -> VisavisError:
        return VisavisError(
            f"training diverged: the loss is not a number in epoch {self.current_epoch + 1}; "
            "epochs before it are kept. Lower the learning rates (--cnn.optim.… or --vit.optim.…) "
            "and use a new --out"
        )


def mixed_losses(
    logits: Float[Tensor, "n classes"],
    labels: Int64[Tensor, " n"],
    foreign: Float[Tensor, " n"],
    *,
    smoothing: float,
) -> Float[Tensor, " n"]:
    """Cross-entropy where a share `foreign` of each picture is of the one before it (`roll(1)`)."""
    own, other = (
        F.cross_entropy(logits, classes, label_smoothing=smoothing, reduction="none")
        for classes in (labels, labels.roll(1))
    )
    return torch.lerp(own, other, foreign)


def _channels_last(images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h w"]:
    return images.contiguous(memory_format=torch.channels_last)
