"""jvan comes first: it prepares what Jittor needs, and Jittor's log stays out of the tests' output."""

import os
import signal

os.environ.setdefault("log_silent", "1")

import jvan  # noqa: F401


def pytest_runtest_setup():
    # Jittor, once imported, ends the whole process when any child dies by a signal; some tests kill theirs.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
