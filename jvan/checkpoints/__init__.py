"""Checkpoints of any known origin: read safely, renamed strictly, written and verified. numpy only."""

from __future__ import annotations
