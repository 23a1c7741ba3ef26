"""
Fuzz the compiled module, built with AddressSanitizer and UndefinedBehaviorSanitizer, against its Python twin.

    python tests/fuzz/asan.py [--minutes N] [--seed N]

The exit code is 1 if the twins differ or a sanitizer reports an error. Every input is in its own allocation of exactly
its size; the byte that CPython appends is poisoned too, so that a read of one byte too many is detected.

This needs GCC with libasan, and Cython. With atheris, a fifth of the time is spent on finding inputs that cover new
branches of the Python twin, because GCC cannot report the coverage of C code to libFuzzer. Both twins then get these
inputs, changed at random, and those of `calls.py`. Without atheris, they get only those of `calls.py`.

"""

import argparse
import ctypes
import importlib.util
import os
import random
import shutil
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from types import ModuleType

from calls import Call, Twin, decode, encoded, inputs, spoiled

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "build" / "asan"
SOURCE = ROOT / "wsserver" / "wire" / "_speedups.pyx"
EXTENSION = OUT / f"_speedups{sysconfig.get_config_var('EXT_SUFFIX')}"
CORPUS = OUT / "corpus"

SANITIZE = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-g", "-O1")
CANARY_DIED = b"ERROR: AddressSanitizer"


def main() -> int:
    """Build the module, check that the sanitizer detects an error, and fuzz; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of the generator and of atheris (default: a new one for each run)"
    )
    parser.add_argument("--child", choices=list(CHILDREN), help=argparse.SUPPRESS)
    options = parser.parse_args()
    seed = options.seed or random.SystemRandom().randrange(1, 2**31)
    if options.child:
        return CHILDREN[options.child](options.minutes * 60, seed)
    build()
    if CANARY_DIED not in run("canary", 0, seed, quiet=True)[1]:
        print("the sanitizer does not detect a read beyond the end, so fuzzing would prove nothing", file=sys.stderr)
        return 1
    minutes = options.minutes
    shutil.rmtree(CORPUS, ignore_errors=True)
    if importlib.util.find_spec("atheris") is None:
        print("atheris is not installed: generated inputs alone")
    else:
        print(f"atheris: {minutes / 5:g} minutes, seed {seed}", flush=True)
        if run("explore", minutes / 5, seed, sanitized=False)[0]:
            print("FAILED: see above")
            return 1
        minutes *= 4 / 5
    print(f"with the sanitizers: {minutes:g} minutes, seed {seed}", flush=True)
    code, _ = run("compare", minutes, seed)
    print("FAILED: see above" if code else "no difference, no report of a sanitizer")
    return int(code != 0)


def build() -> None:
    """Build the extension with the sanitizers, in a directory that no import searches."""
    OUT.mkdir(parents=True, exist_ok=True)
    c_file = OUT / "_speedups.c"
    subprocess.run([sys.executable, "-m", "cython", "-3", str(SOURCE), "-o", str(c_file)], check=True)
    include = sysconfig.get_path("include")
    command = ["gcc", *SANITIZE, "-Wall", "-Wno-unused-function", "-fPIC", "-shared", f"-I{include}", str(c_file)]
    subprocess.run([*command, "-o", str(EXTENSION)], check=True)


def run(child: str, minutes: float, seed: int, *, sanitized: bool = True, quiet: bool = False) -> tuple[int, bytes]:
    """Run this file again as another process; return its exit code, and its standard error if it is quiet."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "WSSERVER_PUREPYTHON": "1",
    }
    if sanitized:
        environment |= {
            "LD_PRELOAD": " ".join(_library(name) for name in ("libasan.so", "libubsan.so")),
            "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1:quarantine_size_mb=16",
            "UBSAN_OPTIONS": "print_stacktrace=1",
            # Each object gets its own allocation, between the sanitizer's red zones.
            "PYTHONMALLOC": "malloc",
        }
    command = [sys.executable, __file__, "--child", child, "--minutes", str(minutes), "--seed", str(seed)]
    pipe = subprocess.PIPE if quiet else None
    done = subprocess.run(command, env=environment, stdout=pipe, stderr=pipe, cwd=OUT, check=False)
    return done.returncode, done.stderr or b""


def _library(name: str) -> str:
    command = ["gcc", f"-print-file-name={name}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


# Code that runs in the other processes.


class Checker:
    """Calls both twins and compares their answers."""

    def __init__(self) -> None:
        spec = importlib.util.spec_from_file_location("wsserver.wire._speedups", EXTENSION)
        assert spec is not None
        assert spec.loader is not None
        self._module: ModuleType = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self._module)
        self._python = python_twin()
        module = self._module
        self._compiled = Twin(
            *(module.parse, module.build, module.Partial, module.FastPath, module.split_head, module.create_delta)
        )
        sanitizer = ctypes.CDLL(None)
        self._forbid, self._allow = (sanitizer[f"__asan_{what}_memory_region"] for what in ("poison", "unpoison"))
        self._forbid.argtypes = self._allow.argtypes = ctypes.c_void_p, ctypes.c_size_t

    def check(self, call: Call) -> None:
        """
        Make a call of both twins.

        Args:
            call: the function and its arguments.

        Raises:
            AssertionError: the twins differ.
        """
        expected = self._python.answer(call)
        # CPython shares bytes objects that are shorter than two bytes.
        after = {_address(data) + len(data) for data in inputs(call) if len(data) > 1}
        for address in after:
            self._forbid(address, 1)
        found = self._compiled.answer(call)
        for address in after:
            self._allow(address, 1)
        assert found == expected, f"{call!r}: Python returned {expected!r}, compiled {found!r}"

    def over_read(self) -> None:
        """Make the compiled code read a byte beyond the end."""
        data = bytes(bytearray(32))
        # Up to the end of the allocation: the sanitizer cannot poison a byte between two addressable ones.
        self._forbid(_address(data) + len(data) - 1, 2)
        self._module.Partial(b"\x81\xa0mask", 32).feed(data, 0)


def _address(data: bytes) -> int:
    return id(data) + bytes.__basicsize__ - 1


def python_twin() -> Twin:
    """Return the Python twin."""
    names = ("wire.frames", "wire.fastpath", "wire.http11", "hub.delta")
    frames, fastpath, http11, delta = (importlib.import_module(f"wsserver.{name}") for name in names)
    return Twin(
        *(frames.py_parse, frames.py_build, frames.PyPartial, fastpath.PyFastPath, http11.py_split_head),
        delta.py_create_delta,
    )


def canary(seconds: float, seed: int) -> int:
    """Read beyond the end of a buffer. The sanitizer must then end the process."""
    Checker().over_read()
    return 0


def compare(seconds: float, seed: int) -> int:
    """Call both twins. Each input is used several times, with a small change each time."""
    rng, checker, count, end = random.Random(seed), Checker(), 0, time.monotonic() + seconds
    corpus = [path.read_bytes() for path in sorted(CORPUS.glob("*"))]
    while time.monotonic() < end:
        data = rng.choice(corpus) if corpus and rng.random() < 0.5 else encoded(rng)
        for change in range(8):
            if change:
                data = spoiled(rng, data)
            try:
                checker.check(decode(data))
            except AssertionError as difference:
                print(f"after {count} calls: {difference}", file=sys.stderr)
                return 1
            count += 1
    print(f"{count} calls of both twins, {len(corpus)} inputs from atheris", flush=True)
    return 0


def explore(seconds: float, seed: int) -> int:
    """Find inputs that cover the Python twin; atheris ends the process itself."""
    import atheris

    frames, fastpath = (importlib.import_module(f"wsserver.wire.{name}") for name in ("frames", "fastpath"))
    rng, twin = random.Random(seed), python_twin()
    functions = [frames.py_head, frames.py_parse, frames.py_build, frames.is_utf8, frames._unmask, decode]
    functions += [frames._whole_characters, frames.PyPartial.feed, frames.PyPartial.valid.fget, frames.PyPartial.raw]
    functions += [getattr(fastpath.PyFastPath, name) for name in ("dataReceived", "_fast", "_dispatch", "sendMessage")]
    for function in functions:
        atheris.instrument_func(function)
    CORPUS.mkdir(parents=True)
    for number in range(500):
        (CORPUS / f"start-{number}").write_bytes(encoded(rng))

    def one(data: bytes) -> None:
        twin.answer(decode(data))

    limits = [f"-max_total_time={int(seconds) or 1}", f"-seed={seed}", "-max_len=4096", "-use_value_profile=1"]
    atheris.Setup(
        [sys.argv[0], *limits, "-verbosity=0", "-print_final_stats=1", f"-artifact_prefix={OUT}/", str(CORPUS)], one
    )
    atheris.Fuzz()
    return 0


CHILDREN = {"canary": canary, "compare": compare, "explore": explore}

if __name__ == "__main__":
    sys.exit(main())
