"""Pictures in, labelled probabilities out."""

from __future__ import annotations
