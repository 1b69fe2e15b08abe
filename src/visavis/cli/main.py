"""The command line; the only module that prints. Results go to stdout, narration to stderr.

Stages, and with them torch, are imported inside functions, so that help comes at once.
"""

import logging
import os
import sys
import traceback
import warnings
from collections.abc import Sequence

from visavis.cli import faults
from visavis.errors import ConfigError
from visavis.training import memory

HELP = """\
usage: visavis COMMAND [flags]

Trains a CNN and a Vision Transformer from scratch on the same images, explains what each looks
at, measures how far those explanations can be trusted, and sets the two face to face.

the whole experiment
  run                   all of the stages below, and one report; goes on where it stopped

stage by stage
  data info             what the images are
  data fetch            bring CIFAR-10 into the cache
  data verify           look for repeated, plain and unevenly distributed images
  train cnn --out DIR   train the CNN                (also: train vit --out DIR)
  evaluate DIR          test a trained model
  explain DIR           draw its heatmaps, and measure them
  cross_model EXPERIMENT  test each model with the other's maps
  compare EXPERIMENT    set both models side by side
  report EXPERIMENT     write report.html

with trained models
  serve EXPERIMENT            a web page to try images and explore the tests (--open)
  predict EXPERIMENT IMAGE…   what both models see in images of your own

this machine
  doctor                check that it has what is needed, and say what to do where it has not

DIR is one model's run folder, EXPERIMENT the folder that holds cnn/ and vit/.
visavis COMMAND --help lists a command's flags; visavis --version tells the version.
The fastest look at everything: visavis run --preset smoke --data.source shapes
"""

LIGHTNING = (  # those above them have their level set when Lightning is imported
    "lightning.fabric.utilities.rank_zero",
    "lightning.pytorch.utilities.rank_zero",
    "lightning.pytorch.trainer.connectors.signal_connector",
)
LONG = ("run", "train", "explain", "cross_model")
"""Commands that make steps by the thousand."""

LIBRARIES = (
    "lightning|pytorch_lightning|torch|torchmetrics|torchvision|pytorch_grad_cam|captum|wandb"
)


def main() -> int:
    """Run the command line and return its exit code."""
    arguments = sys.argv[1:]
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal that lacks a character shows a ? for it
            stream.reconfigure(errors="replace")
    debug = "--debug" in arguments
    handler = _narrate(debug=debug)
    try:
        with warnings.catch_warnings(), faults.stoppable():
            if not debug:
                warnings.filterwarnings("ignore", module=LIBRARIES)
            _dispatch(arguments)
            sys.stdout.flush()
        return 0
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except BaseException as error:
        if debug:
            traceback.print_exc()
        message, code = faults.told(error)
        print(f"visavis: {message}", file=sys.stderr)
        return code
    finally:
        logging.getLogger("visavis").removeHandler(handler)


def _dispatch(arguments: Sequence[str]) -> None:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(HELP, end="")
        return
    if arguments[0] == "--version":
        import importlib.metadata

        print(importlib.metadata.version("visavis"))
        return
    from visavis.cli.commands import COMMANDS

    if arguments[0] in LONG:
        memory.keep_freed_memory()
    for words in (2, 1):
        if command := COMMANDS.get(" ".join(arguments[:words])):
            for text in command(arguments[words:]):
                print(text, flush=True)
            return
    groups = {command.split()[0] for command in COMMANDS}
    if arguments[0] in groups and arguments[1:] in (["-h"], ["--help"]):
        print(HELP, end="")
        return
    raise ConfigError(_unknown_command(arguments, list(COMMANDS)))


def _unknown_command(arguments: Sequence[str], known: list[str]) -> str:
    from visavis.cli.parsing import did_you_mean

    name = arguments[0]
    if name.startswith("-"):
        return f"{name} comes after a command, such as: visavis run {name}"
    if seconds := [command.split()[1] for command in known if command.startswith(f"{name} ")]:
        given = f", not {arguments[1]}" if arguments[1:] else ""
        return f"visavis {name} is followed by {' or '.join(seconds)}{given}"
    firsts = list(dict.fromkeys(command.split()[0] for command in known))
    hint = did_you_mean(name, firsts) or f"; there are {', '.join(firsts)}"
    return f"there is no command {name}{hint}"


class _Narration(logging.Handler):
    """Plain lines on stderr that do not tear a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line; faults of the terminal are not worth ending a run."""
        try:
            if "tqdm" in sys.modules:
                from tqdm import tqdm

                tqdm.write(self.format(record), file=sys.stderr)
            else:
                print(self.format(record), file=sys.stderr)
        except Exception:
            self.handleError(record)


def _narrate(*, debug: bool) -> logging.Handler:
    """Send what the stages tell to stderr, and what Lightning tells nowhere unless debugging."""
    handler = _Narration()
    logger = logging.getLogger("visavis")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    if not debug:
        for name in LIGHTNING:
            logging.getLogger(name).setLevel(logging.ERROR)
    return handler
