"""Scripts that run in an engine's own process and interpreter: they import nothing of jvan but `jittor_worker`."""
