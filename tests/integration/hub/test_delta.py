"""The npm package `fossil-delta` applies the deltas that this server makes."""

import base64
import json
import os
import random
import subprocess

import pytest
from node import install_node_packages
from sdk import SDKS

from wsserver.hub.delta import create_delta, py_create_delta


def edited(rng, base):
    """Return the text with a few parts replaced, moved and inserted."""
    text = base
    for _ in range(rng.randrange(1, 6)):
        start, other = sorted(rng.randrange(len(text) + 1) for _ in range(2))
        new = rng.choice((b"", rng.randbytes(3), "µ€😀".encode(), text[start : start + 300]))
        text = text[:start] + new + rng.choice((text[other:], text[start:], text[other:] + text[start:other]))
    return text


@pytest.mark.parametrize("create", [py_create_delta, create_delta], ids=["python", "in use"])
def test_the_package_makes_the_new_texts_of_all_deltas(create):
    rng = random.Random(1)
    lines = []
    for _ in range(500):
        words = rng.choices(['"price":', "12.5,", "größer", "😀", "\n", '"'], k=rng.randrange(1500))
        base = rng.choice(("".join(words).encode(), rng.randbytes(rng.randrange(2000)), bytes(rng.randrange(3000))))
        target = edited(rng, base)
        delta = create(base, target)
        if delta is not None:
            lines.append(json.dumps([base64.b64encode(text).decode() for text in (base, delta, target)]))
    done = subprocess.run(
        ["node", str(SDKS / "fossil.js")],
        input="\n".join(lines),
        env={**os.environ, "NODE_PATH": str(install_node_packages() / "node_modules")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == f"{len(lines)}\n", done.stderr
    assert len(lines) > 300
