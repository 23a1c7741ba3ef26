"""Directories of the project that tests use."""

from pathlib import Path

__all__ = ["DOCS", "EXAMPLES", "ROOT", "TESTS"]

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests"
DOCS = ROOT / "docs"
EXAMPLES = DOCS / "examples"
