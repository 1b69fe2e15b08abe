"""The command line; the only module that prints."""


def main() -> int:
    """Run the command line."""
    return 0
