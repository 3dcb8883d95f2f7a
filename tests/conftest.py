"""jvan comes first: it prepares what Jittor needs, and Jittor's log stays out of the tests' output."""

import faulthandler
import os
import signal

os.environ.setdefault("log_silent", "1")

import jvan  # noqa: F401

_stderr = 2


def pytest_configure(config):
    global _stderr
    with config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        _stderr = os.dup(2)


def pytest_runtest_setup():
    # Jittor, once imported, ends the process with status 1 and a line that is captured: at a crash, at Ctrl-C, and when any
    # child dies by a signal, though some tests kill theirs.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    faulthandler.disable()  # else it keeps what it installed, which Jittor has replaced
    faulthandler.enable(_stderr)
