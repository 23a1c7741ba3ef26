"""
What pyproject.toml cannot say: the browser page stands at the top level and is installed inside the package.

An editable install needs no copy: `wsserver.web.page` finds the directory beside the package.
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithPage(build_py):
    """Copy `static/` to `wsserver/static/` in what is built."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            shutil.copytree("static", Path(self.build_lib, "wsserver", "static"), dirs_exist_ok=True)


setup(cmdclass={"build_py": BuildWithPage})
