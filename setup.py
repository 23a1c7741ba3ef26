"""
What pyproject.toml cannot say: the optional extension, and the browser page at the top level.

`WSSERVER_BUILD_EXTENSION=0` leaves the extension out, `=1` fails without it; unset, a machine without a compiler
installs the same behaviour, slower.
"""

import os
import shutil
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_py import build_py


class BuildWithPage(build_py):
    """Copy `static/` to `wsserver/static/` in what is built. An editable install finds it beside the package."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            shutil.copytree("static", Path(self.build_lib, "wsserver", "static"), dirs_exist_ok=True)


wanted = os.environ.get("WSSERVER_BUILD_EXTENSION", "")
speedups = Extension(
    "wsserver.wire._speedups",
    ["wsserver/wire/_speedups.pyx"],
    extra_compile_args=["-O3"],
    optional=wanted != "1",
)
setup(cmdclass={"build_py": BuildWithPage}, ext_modules=[] if wanted == "0" else [speedups])
