"""`wsserver version`."""

import argparse

from wsserver.process.version import show_version

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add no arguments: the command has none."""


def run(_: argparse.Namespace | None = None) -> None:
    """Print the version."""
    print(show_version(), flush=True)
