"""Check the accessibility of a page with axe-core."""

from typing import Any

from node import install_node_packages
from playwright.sync_api import Page

__all__ = ["find_barriers"]

_RUN = "async () => (await axe.run(document, { resultTypes: ['violations'] })).violations"


def find_barriers(page: Page) -> list[tuple[str, list[str]]]:
    """Return the serious and critical barriers that axe-core finds: the rule, and the elements that violate it."""
    if not page.evaluate("typeof axe !== 'undefined'"):
        source = install_node_packages() / "node_modules" / "axe-core" / "axe.min.js"
        page.evaluate(source.read_text("utf-8") + "; undefined")
    found: list[dict[str, Any]] = page.evaluate(_RUN)
    return [
        (one["id"], [node["html"][:120] for node in one["nodes"]])
        for one in found
        if one["impact"] in ("serious", "critical")
    ]
