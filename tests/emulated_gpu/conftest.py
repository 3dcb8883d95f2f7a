from ..emulation import emulator, out, run  # noqa: F401
