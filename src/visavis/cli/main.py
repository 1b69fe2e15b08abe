"""The entry point: prints the results of a command to stdout, everything else to stderr.

Stages, and with them torch, are imported inside the commands, so that help appears at once.
"""

import importlib.metadata
import logging
import os
import re
import sys
import traceback
import warnings

from visavis.cli.exit_codes import message_and_exit_code, stoppable
from visavis.errors import ConfigError, EnvironmentFault
from visavis.training import ranks

HELP = """\
usage: visavis COMMAND [flags]

Train two image classifiers from scratch on the same images, by default a CNN and a Vision
Transformer, explain their predictions, measure how faithful the explanations are, and compare them.

The whole experiment
  run                       all stages below; resumes where it stopped

Many trainings
  study MODEL… --out DIR    train several models with several seeds, as many at once as fit
  study-job DIR             one training of a study; `study --print` lists these commands

Stage by stage
  data info                 show the data set: classes, counts, channel statistics
  data fetch [cifar100]     download CIFAR-10, or CIFAR-100, into the cache
  data verify               look for duplicate and blank images, and for uneven classes
  train cnn --out DIR       train the CNN
  train vit --out DIR       train the Vision Transformer; or timm/NAME, torchvision/NAME, your own
  evaluate DIR              evaluate a trained model on the test images
  explain DIR               compute its attribution maps and measure how faithful they are
  validate-scores DIR       test the scores themselves, on a model of the built-in shapes
  cross-model EXPERIMENT    evaluate each model with the other's attribution maps
  compare EXPERIMENT        compare both models
  report EXPERIMENT         write report.html

For a document of your own
  export EXPERIMENT --to DIR  figures, tables, Markdown and BibTeX of the report
  cite EXPERIMENT           the works that it uses, as BibTeX

With trained models
  serve EXPERIMENT          web page to try both models on any image (--open opens it)
  predict EXPERIMENT IMAGE  classify images of your own

This machine
  doctor                    check that it has what visavis needs, and say how to get the rest

DIR is the run folder of one model, EXPERIMENT the folder that holds those of two models. With
--models FILE.py, every command knows the models that FILE.py registers.
`visavis COMMAND --help` lists the flags of a command, `visavis --version` prints the version.
For a first look: visavis run --preset smoke --data.source shapes
"""

LIGHTNING = (  # their levels are set when Lightning is imported, not inherited
    "lightning.fabric.utilities.rank_zero",
    "lightning.pytorch.utilities.rank_zero",
    "lightning.pytorch.trainer.connectors.signal_connector",
)
LIBRARIES = (
    "lightning|pytorch_lightning|torch|torchmetrics|torchvision|pytorch_grad_cam|captum|ray|wandb"
)

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Characters that a terminal obeys, such as those in the name of somebody's file."""


def harmless(text: str) -> str:
    """The text with ? for what a terminal would obey; line breaks and tabs stay."""
    return CONTROL.sub("?", text)


def main() -> int:
    """Run the command line and return its exit code."""
    arguments = sys.argv[1:]
    debug = "--debug" in arguments
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # print ? for characters that the terminal lacks
            stream.reconfigure(errors="replace")
    handler = _StderrHandler()
    try:
        os.getcwd()
    except FileNotFoundError:
        print("visavis: the working folder was deleted; change to another one", file=sys.stderr)
        return EnvironmentFault.exit_code
    logger = logging.getLogger("visavis")
    logger.addHandler(handler)
    rank = ranks.started().rank  # the others would report the same
    logger.setLevel(logging.ERROR if rank else logging.INFO)
    for name in () if debug else LIGHTNING:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), stoppable():
            if not debug:
                warnings.filterwarnings("ignore", module=LIBRARIES)
            _dispatch(arguments)
            sys.stdout.flush()
        return 0
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BrokenPipeError:  # the reader, such as `head`, has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except BaseException as error:
        if debug:
            traceback.print_exc()
        message, code = message_and_exit_code(error)
        at = f" (rank {rank})" if rank else ""
        print(f"visavis{at}: {harmless(message)}", file=sys.stderr)
        return code
    finally:
        logger.removeHandler(handler)


def _dispatch(arguments: list[str]) -> None:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(HELP, end="")
    elif arguments[0] == "--version":
        print(importlib.metadata.version("visavis"))
    else:
        from visavis.cli.arguments import Training
        from visavis.cli.parsing import parse
        from visavis.cli.study_flags import expanded

        arguments = expanded(arguments)
        command = parse(arguments)  # ends here after --help, before the heavier imports
        if ranks.started().world_size > 1 and not isinstance(command, Training):
            raise ConfigError(
                "torchrun is for `visavis train --train.devices …`; run this command without it"
            )
        from visavis.cli.commands import COMMANDS

        stage = COMMANDS[type(command)]
        for text in stage(command, lambda known, *more: parse([*arguments, *more], known)):
            print(harmless(text), flush=True)


class _StderrHandler(logging.Handler):
    """Plain lines on stderr that do not break a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line; an error of the terminal must not end a run."""
        try:
            from tqdm import tqdm

            tqdm.write(harmless(self.format(record)), file=sys.stderr)
        except Exception:
            self.handleError(record)
