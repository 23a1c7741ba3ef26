"""`wsserver import-centrifugo FILE`: convert a configuration of Centrifugo 6 into one of this server."""

import argparse
import os
import sys

from wsserver.cli.centrifugo.options import convert
from wsserver.cli.centrifugo.source import read_document
from wsserver.cli.centrifugo.toml import write_configuration
from wsserver.errors import SettingError
from wsserver.text import escape

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `wsserver import-centrifugo` to a parser."""
    parser.add_argument("file", metavar="FILE", help="the configuration of Centrifugo 6: JSON, or TOML if named *.toml")
    parser.add_argument(
        "--output", metavar="FILE", help="write a file, which must not exist, instead of standard output"
    )


def run(chosen: argparse.Namespace) -> None:
    """
    Write the configuration, and a line on standard error for each option without a counterpart.

    Raises:
        SettingError: the file cannot be read, is not a configuration of Centrifugo 6, or the output file exists.
    """
    converted = convert(read_document(chosen.file))
    text = write_configuration(converted)
    if chosen.output is None:
        sys.stdout.write(text)
        sys.stdout.flush()
    else:
        _write_file(chosen.output, text)
    for note in converted.notes:
        print(f"{escape(note.option)}: {escape(note.reason)}", file=sys.stderr)


def _write_file(path: str, text: str) -> None:
    try:
        # The file contains secrets. An existing file may have been edited since it was written.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise SettingError(path, f"cannot be written: {error.strerror}") from None
