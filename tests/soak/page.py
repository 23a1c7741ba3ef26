"""The page of the docs that has the results of the long runs."""

from pathlib import Path

__all__ = ["DOCS", "write_part"]

DOCS = Path(__file__).resolve().parents[2] / "docs" / "reference"


def write_part(name: str, text: str, page: Path = DOCS / "soak.md") -> None:
    """
    Replace a part of the page.

    Args:
        name: the part is between the lines `<!-- name -->` and `<!-- end of name -->`.
        text: the new part, in Markdown.
        page: the file.

    Raises:
        ValueError: the page has no such part, or two.
    """
    begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->\n"
    before, rest = page.read_text("utf-8").split(begin)
    _, after = rest.split(end)
    page.write_text(f"{before}{begin}\n{text.strip()}\n\n{end}{after}", "utf-8")
