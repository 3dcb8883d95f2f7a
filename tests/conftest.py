"""jvan comes first: it prepares what Jittor needs, and Jittor's log stays out of the tests' output."""

import os

os.environ.setdefault("log_silent", "1")

import jvan  # noqa: F401
