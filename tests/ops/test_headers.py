"""Every header of the kernels finds what it includes: the text of all of it makes an operator's name."""

import pytest

from jvan.ops import _jit

HEADERS = sorted((*_jit.KERNELS.glob("*.h"), *_jit.CUDA_KERNELS.glob("*.cuh")))


@pytest.mark.parametrize("path", HEADERS, ids=lambda path: path.name)
def test_what_a_header_includes_is_in_the_package(path):
    included = _jit._with_includes(path)
    assert included[0] == path and {each.parent for each in included} <= {_jit.KERNELS, _jit.CUDA_KERNELS}
    assert len(_jit._digest(path)) == 16
