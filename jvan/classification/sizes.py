"""What small pictures are."""

SMALL = 64  # up to this size pictures are padded and shifted, above it cut at random sizes
