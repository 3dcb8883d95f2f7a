"""What makes `import jittor` work: settings, its cache, the compiler, oneDNN, CUDA. Nothing here imports Jittor."""
