"""
The parts of the build that pyproject.toml cannot describe: the optional compiled extensions and the page in `static/`.

`WSSERVER_BUILD_EXTENSION=0` skips the extensions; with `=1` the build fails if the fast path cannot be compiled. If the
variable is unset, a machine without a compiler installs the package without it: same behaviour, but slower. Without the
load generator, only `wsserver bench` is missing; `WSSERVER_BUILD_LOAD=0` skips it.
"""

import os
import shutil
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_py import build_py


class BuildWithPage(build_py):
    """Copy `static/` to `wsserver/static/` in the build; an editable install finds it beside the package."""

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
# The load generator of `wsserver bench`, which also needs the headers of OpenSSL and zlib.
load = Extension(
    "wsserver.cli._load",
    ["wsserver/cli/_load.c"],
    depends=["benchmarks/load.c", *map(str, Path("benchmarks/load").glob("*.h"))],
    libraries=["ssl", "crypto", "z"],
    extra_compile_args=["-O2"],
    optional=True,
)
extensions = [speedups, load] if os.environ.get("WSSERVER_BUILD_LOAD") != "0" else [speedups]
setup(cmdclass={"build_py": BuildWithPage}, ext_modules=[] if wanted == "0" else extensions)
