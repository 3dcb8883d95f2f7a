"""Makes the ONNX file that ONNX Runtime and OpenVINO run: PyTorch's network, exported with static shapes."""

from __future__ import annotations

import warnings

from serve import serve, split_arrays


def versions() -> dict:
    import onnx
    import torch

    return {"torch": torch.__version__, "onnx": onnx.__version__}


def build(task: dict):
    return Export(task)


class Export:
    notes = ()

    def __init__(self, task: dict):
        import torch
        from torch_van import VAN
        from torch_worker import load_strict

        weights, picture, _ = split_arrays(task)
        self.network = VAN(task["config"], task["stages"]).eval()
        load_strict(self.network, weights)
        self.picture, self.file = torch.from_numpy(picture), task["onnx"]

    def step(self) -> None:
        import torch

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # The older exporter: the newer one wants the package onnxscript besides.
            torch.onnx.export(
                self.network, (self.picture,), self.file, input_names=["input"], output_names=["logits"],
                opset_version=18, dynamo=False,
            )  # fmt: skip


if __name__ == "__main__":
    serve(versions, build)
