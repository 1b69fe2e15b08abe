"""What a request asks for, and why one is not answered."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which heatmap is asked for. None stands for the default of the model."""

    model: str | None = None
    """None: both, each by its own default method."""
    method: str | None = None
    class_name: str | None = None
    """None: the class that the model names."""
    layer: str | None = None
    """Of Grad-CAM a part's name; of attention the number of a block, from 1."""
    head: int | None = None
    """Of attention, from 1; None: the mean of all."""


class Refusal(Exception):  # noqa: N818 - it is no fault of ours
    """A request that is refused, with the status and one sentence for people."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message
