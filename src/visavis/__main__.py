"""The command: `visavis`, or `python -m visavis`."""

import signal
import sys


def command() -> None:
    """Run the command line and exit.

    Until the command handles signals itself, and after it, Ctrl-C ends the process as the system
    does, instead of with a traceback of whatever Python was importing.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from visavis.cli.main import main

    sys.exit(main())


if __name__ == "__main__":
    command()
