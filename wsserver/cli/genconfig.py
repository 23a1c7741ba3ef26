"""`wsserver genconfig`."""

import argparse

from wsserver.config.genconfig import genconfig

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add no arguments: the command has none."""


def run(_: argparse.Namespace) -> None:
    """Print a configuration file to start from."""
    print(genconfig(), flush=True)
