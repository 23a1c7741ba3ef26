"""Twisted's own tests of TLS, with the TLS protocol of this server."""

import subprocess
import sys

from paths import TESTS


class TwistedsTests:
    """Twisted's own tests, in a process of their own: they run its reactor."""

    def test_they_pass(self, tmp_path):
        """All but the two that tls_of_twisted.py leaves out."""
        module = TESTS / "support" / "tls_of_twisted.py"
        line = [sys.executable, "-m", "twisted.trial", "--temp-directory", str(tmp_path / "trial"), str(module)]
        done = subprocess.run(line, capture_output=True, text=True, timeout=200, check=False)
        words = done.stdout + done.stderr
        assert done.returncode == 0, words
        assert "successes=49" in words, words
