"""CUDA kernels for jvan.ops: `*.cuh`; what runs them, and what shows on a device or on the host that they are right."""

from __future__ import annotations
