"""A configuration file for the tests of options."""

import pytest


@pytest.fixture
def config(tmp_path):
    """Return a function that writes a file `wsserver.toml` and returns its path."""

    def write(text):
        path = tmp_path / "wsserver.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(path)

    return write
