"""Checkpoints of any known origin: read safely, renamed strictly, written and verified. numpy only."""
