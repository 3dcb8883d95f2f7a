from ..emulation import emulator, out  # noqa: F401
