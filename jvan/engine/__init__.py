"""Training and validation; `jvan.engine.loop.train` is the whole loop."""
