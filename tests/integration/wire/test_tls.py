"""Twisted's own tests of TLS, with the TLS protocol of this server."""

import subprocess
import sys

from paths import TESTS


class TwistedsTests:
    """Twisted's own tests, in a process of their own because they run its reactor."""

    def test_all_49_tests_of_twisted_pass_with_our_protocol(self, tmp_path):
        """The module tls_of_twisted.py, which contains the tests, skips two more."""
        module = TESTS / "support" / "tls_of_twisted.py"
        line = [sys.executable, "-m", "twisted.trial", "--temp-directory", str(tmp_path / "trial"), str(module)]
        done = subprocess.run(line, capture_output=True, text=True, timeout=200, check=False)
        words = done.stdout + done.stderr
        assert done.returncode == 0, words
        assert "successes=49" in words, words
