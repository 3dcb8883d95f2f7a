"""CUDA as Jittor 1.3.11 wants it, made of what the machine has: found, judged, assembled. Reads the environment, changes none of it."""
