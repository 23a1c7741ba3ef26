"""
Run one test of a `unittest` module, and print the outcome of each of its subtests.

    python unittest_case.py MODULE.CLASS.METHOD
    python unittest_case.py --list MODULE

The first form prints one line of JSON for each subtest, as soon as it has ended, and one for the test itself if it has
no subtests: `{"case": ..., "error": ...}`; the error is null if the subtest has passed. A program that ends a test that
hangs therefore knows the outcome of the subtests before. The second form prints the names of the tests of a module.

This script imports nothing of the project: it runs in the source directory of the package under test.
"""

import importlib
import json
import os
import sys
import unittest

# Python puts the directory of this script at the start of the path; the package under test is in the working directory.
sys.path[0] = os.getcwd()


class Reporter(unittest.TestResult):
    """Prints the outcomes."""

    def __init__(self):
        super().__init__()
        self.subtests = 0

    def addSubTest(self, test, subtest, err):
        """Report a subtest; called by unittest."""
        super().addSubTest(test, subtest, err)
        self.subtests += 1
        self.report(dict(subtest.params), err)

    def addSuccess(self, test):
        """Report a test without subtests that has passed; called by unittest."""
        super().addSuccess(test)
        if not self.subtests:
            self.report({}, None)

    def addFailure(self, test, err):
        """Report a test that has failed; called by unittest."""
        super().addFailure(test, err)
        self.report({}, err)

    addError = addFailure

    def addSkip(self, test, reason):
        """Report a skipped test; called by unittest."""
        super().addSkip(test, reason)
        self.report({}, (None, f"skipped: {reason}", None))

    def report(self, case, err):
        """Print an outcome."""
        error = None if err is None else str(err[1]) or type(err[1]).__name__
        print(json.dumps({"case": case, "error": error}, default=str), flush=True)


def list_tests(module):
    """Return the names of a module's tests, each as `MODULE.CLASS.METHOD`."""
    suites = unittest.defaultTestLoader.loadTestsFromModule(importlib.import_module(module))
    return [test.id() for suite in suites for test in suite]


if sys.argv[1] == "--list":
    print("\n".join(list_tests(sys.argv[2])))
else:
    unittest.defaultTestLoader.loadTestsFromName(sys.argv[1]).run(Reporter())
