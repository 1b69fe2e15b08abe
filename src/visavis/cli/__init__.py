"""The command line. `main` is the entry point."""

from visavis.cli.main import main

__all__ = ["main"]
