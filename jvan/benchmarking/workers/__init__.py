"""Scripts that run in an engine's own process and interpreter: only `jittor_worker` (and `cuda_ceiling_worker` through it) imports jvan."""
