"""What several files of tests take as an argument."""

import pytest

from jvan.ops import _jit


@pytest.fixture(params=[2, None], ids=["emulated", "processor's"])
def tiles(request, monkeypatch):
    """Who runs AMX's tiles."""
    monkeypatch.setattr(_jit, "amx", request.param)
    if request.param is None and "by AMX" not in _jit.arithmetic("bfloat16").text:
        pytest.skip("this processor has no AMX, or it is not granted")
