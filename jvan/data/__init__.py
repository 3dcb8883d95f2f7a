"""Pictures with labels, from where they lie to the batches that a network trains on; imports no Jittor."""

from __future__ import annotations
