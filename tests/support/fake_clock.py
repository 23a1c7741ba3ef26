"""A system clock that tests set, for a server process."""

import os
from pathlib import Path

__all__ = ["FakeClock"]


class FakeClock:
    """The system clock of a server process, which the test sets with libfaketime; CLOCK_MONOTONIC is not affected."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / "clock"
        self.jump(0)
        library = min(Path("/usr").glob("lib*/**/faketime/libfaketimeMT.so.1"))
        self.environ = os.environ | {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }

    def jump(self, seconds: int) -> None:
        """Set the clock to the real time plus this many seconds."""
        written = self._file.with_suffix(".new")
        written.write_text(f"{seconds:+d}\n")
        written.replace(self._file)
