"""The formats of weights files: PyTorch's, safetensors, Jittor's, numpy's, Hugging Face's folders."""
