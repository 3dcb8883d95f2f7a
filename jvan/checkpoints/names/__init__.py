"""Whose names a file's tensors have, and which network they make."""
