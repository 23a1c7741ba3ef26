"""
Pages that the server writes itself, such as `/faults` and `/case`: their head, and texts that scripts can translate.

The texts are English. A text in an element with `data-say` is translated in browsers of other languages, by a table of
`static/`; see `static/document.js`. Without scripts, the page is complete, and English.
"""

from collections.abc import Iterable, Sequence
from html import escape
from http import HTTPStatus

from wsserver.web.responses import Response, write_lines

__all__ = ["document_response", "link", "say", "table"]

_LINES = write_lines(
    (("Content-Type", "text/html; charset=utf-8"), ("Cache-Control", "no-store"), ("Vary", "Accept")),
)


def say(text: str, tag: str = "span") -> str:
    """
    Return an element with a text that the browser translates.

    Args:
        text: the text.
        tag: the element, with its attributes.
    """
    return f"<{tag} data-say>{escape(text)}</{tag.split(maxsplit=1)[0]}>"


def link(address: str, text: str) -> str:
    """Return a link whose text the browser translates."""
    return say(text, f'a href="{escape(address)}"')


def table(heads: Sequence[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table with these headings; the cells are HTML already."""
    head = "".join(say(one, 'th scope="col"') for one in heads)
    body = "\n".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="table">\n<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>\n</div>'


def document_response(path: str, texts: str, title: str, main: str, *, about: str = "") -> Response:
    """
    Return a page.

    Args:
        path: the path of the request. The page names its files relative to it, so that a proxy can add a prefix.
        texts: the name of the file in `static/` that translates the texts.
        title: the title, which the browser translates.
        main: the HTML below the title.
        about: what the page is about, after the title; not translated.
    """
    root = "../" * (path.count("/") - 1)
    subject = f": <bdi>{escape(about)}</bdi>" if about else ""
    page = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(f'{title}: {about}' if about else title)}</title>\n"
        f'<link rel="icon" href="{root}favicon.svg" type="image/svg+xml">\n'
        f'<link rel="stylesheet" href="{root}style.css">\n<link rel="stylesheet" href="{root}document.css">\n'
        f'<script type="module" src="{root}document.js"></script>\n</head>\n'
        f'<body class="document" data-texts="{texts}">\n<header>\n'
        f'<a class="brand" href="{root or "./"}">\n'
        f'<img src="{root}favicon.svg" alt="" width="28" height="28">wsserver</a>\n'
        '<div class="preferences" id="preferences" hidden>\n<button type="button" class="ghost" id="theme"></button>\n'
        '<button type="button" class="ghost" id="language"></button>\n</div>\n</header>\n'
        f"<main>\n<h1>{say(title)}{subject}</h1>\n{main}\n</main>\n</body>\n</html>\n"
    )
    return Response(HTTPStatus.OK, _LINES, page.encode("utf-8", "replace"))
