"""Errors for users, one class for each exit code of the command line."""


class VisavisError(Exception):
    """An error whose message is one sentence: what is wrong, where, and what to do."""

    exit_code = 1

    def __str__(self) -> str:
        """One line of bounded length, also where it quotes a library's error or a damaged file."""
        text = " ".join(Exception.__str__(self).splitlines())
        return text if len(text) <= 1900 else f"{text[:1500]} … {text[-300:]}"


class DivergedError(VisavisError):
    """A training whose loss became NaN or infinite."""


class ScoreError(VisavisError):
    """A score of attribution maps that failed its test against the known truth."""


class ConfigError(VisavisError, ValueError):
    """A flag, value or combination that cannot work."""

    exit_code = 2


class ModelError(ConfigError):
    """A model that is no classifier of these images, or that does not bear what is asked of it."""


class DataError(VisavisError):
    """Data that is missing, damaged, or not in the expected format."""

    exit_code = 3


class CheckpointError(VisavisError):
    """A run folder or weights file that is incomplete, damaged, or of another model."""

    exit_code = 4


class StudyError(VisavisError):
    """A study of which some trainings failed; the others are finished."""

    exit_code = 7


class EnvironmentFault(VisavisError):  # noqa: N818 - EnvironmentError is Python's own
    """A machine that lacks something: a GPU, a package, disk space, a free run folder."""

    exit_code = 5
