import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'^__version__ = "(.+)"$', (HERE / "jvan" / "__init__.py").read_text(encoding="utf-8"), re.M)[1]
CUDA = [
    "boot/toolkit/shim/*",
    "boot/toolkit/shim/cub/*",
    "boot/toolkit/transpose/*",
]  # headers, a script and a kernel, used as files
# a compiler and libraries that fit each other, for machines with a driver for CUDA 13 and no toolkit; torch 2.11 brings
# the same libraries. There are no such wheels for CUDA 12, whose nvcc is in the toolkit alone.
CUDA13 = [
    "nvidia-cuda-nvcc==13.0.*",
    "nvidia-cuda-crt==13.0.*",
    "nvidia-nvvm==13.0.*",
    "nvidia-cuda-cccl==13.0.*",
    "nvidia-cuda-runtime==13.0.*",
    "nvidia-cublas==13.1.*",
    "nvidia-curand==10.4.*",
]

setup(
    name="jvan",
    version=VERSION,
    description="The Visual Attention Network (VAN) native to Jittor: PyTorch checkpoints in, classified pictures out",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.9,<3.13",
    packages=find_packages(include=["jvan", "jvan.*"]),
    package_data={
        "jvan": [
            "py.typed",
            "assets/*",
            "checkpoints/published/*.json",
            "ops/kernels/*.h",
            "ops/cuda/*.cuh",
            *CUDA,
        ]
    },
    install_requires=[
        "jittor==1.3.11.*",
        "numpy<2",  # Jittor 1.3 corrupts arrays with numpy 2, without a word
        "pillow",
        "safetensors",
        "tqdm",
        # Jittor's operators use oneDNN's 2.x interface; it would fetch a build of its own from its server.
        "onednn-devel-cpu-gomp==2022.2.1; sys_platform == 'linux' and platform_machine == 'x86_64'",
    ],
    extras_require={
        "test": ["pytest", "ruff>=0.17,<0.18", "matplotlib", "tensorboardX"],
        "bench": ["torch", "onnx", "onnxruntime", "openvino"],
        "cuda13": [f"{wheel}; sys_platform == 'linux'" for wheel in CUDA13],
        "plot": ["matplotlib"],
        "log": ["tensorboardX"],
    },
    entry_points={"console_scripts": ["jvan = jvan.__main__:main"]},
)
