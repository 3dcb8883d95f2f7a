"""ONNX Runtime on the CPU, all of its graph optimisations on."""

from __future__ import annotations

from serve import serve, split_arrays


def versions() -> dict:
    import onnxruntime

    return {"onnxruntime": onnxruntime.__version__}


def build(task: dict):
    return Session(task)


class Session:
    notes = ()

    def __init__(self, task: dict):
        import onnxruntime

        onnxruntime.set_default_logger_severity(3)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = task["threads"]
        self.session = onnxruntime.InferenceSession(task["onnx"], options, providers=["CPUExecutionProvider"])
        self.inputs = {"input": split_arrays(task)[1]}

    def step(self) -> None:
        (self.logits,) = self.session.run(None, self.inputs)

    def outputs(self) -> dict:
        return {"logits": self.logits}


if __name__ == "__main__":
    serve(versions, build)
