"""Arithmetic on channels-last maps; the network's modules hold the parameters and call these."""

from __future__ import annotations
