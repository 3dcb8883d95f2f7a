"""OpenVINO on the CPU with static shapes, in float32 or bfloat16."""

from __future__ import annotations

from serve import serve, split_arrays


def versions() -> dict:
    import openvino

    return {"openvino": openvino.__version__.partition("-")[0]}


def build(task: dict):
    return Compiled(task)


class Compiled:
    """One inference request; its input and output tensors are reused."""

    def __init__(self, task: dict):
        import openvino

        wanted = {"float32": "f32", "bfloat16": "bf16"}[task["dtype"]]
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": task["threads"],
            "INFERENCE_PRECISION_HINT": wanted,
        }
        core = openvino.Core()
        compiled = core.compile_model(core.read_model(task["onnx"]), "CPU", settings)
        precision = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        self.notes = () if precision == wanted else (f"OpenVINO computes in {precision} here, not {wanted}",)
        self.request = compiled.create_infer_request()
        self.request.set_input_tensor(openvino.Tensor(split_arrays(task)[1]))

    def step(self) -> None:
        self.request.infer()

    def outputs(self) -> dict:
        return {"logits": self.request.get_output_tensor().data}


if __name__ == "__main__":
    serve(versions, build)
