"""Why a request is not answered."""


class Refusal(Exception):  # noqa: N818 - it is no fault of ours
    """A request that is refused, with the status and one sentence for people."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message
