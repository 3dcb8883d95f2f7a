"""Classification: one label a picture."""
