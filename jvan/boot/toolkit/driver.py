"""What NVIDIA's driver says of itself and of the GPUs, asked through its own library."""

from __future__ import annotations

from typing import NamedTuple

CAPABILITY = (75, 76)  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR


class Gpu(NamedTuple):
    """A device's name and architecture: 90 is compute capability 9.0."""

    name: str
    arch: int


def version() -> tuple[int, int] | None:
    """The newest CUDA whose programs the driver runs; None without a driver."""
    import ctypes  # 4 ms, and only where there is a compiler

    library, number = _library(), ctypes.c_int()
    if library is None or library.cuDriverGetVersion(ctypes.byref(number)) != 0:
        return None
    return number.value // 1000, number.value % 1000 // 10


def gpus() -> list[Gpu]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES has them; none if the driver cannot start."""
    import ctypes

    library, count = _library(), ctypes.c_int()
    if library is None or library.cuInit(0) != 0 or library.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return []
    found = [_gpu(library, index) for index in range(count.value)]
    return [gpu for gpu in found if gpu]


def _gpu(library, index: int) -> Gpu | None:
    import ctypes

    device, name, values = ctypes.c_int(), ctypes.create_string_buffer(256), [ctypes.c_int(), ctypes.c_int()]
    faults = [library.cuDeviceGet(ctypes.byref(device), index), library.cuDeviceGetName(name, 256, device)]
    faults += [
        library.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)
        for value, attribute in zip(values, CAPABILITY)
    ]
    if any(faults):
        return None
    return Gpu(name.value.decode("utf-8", "replace"), 10 * values[0].value + values[1].value)


def _library():
    import ctypes

    try:
        return ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
