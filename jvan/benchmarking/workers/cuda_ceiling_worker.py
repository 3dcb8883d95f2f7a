"""What a device gives at most: cuBLAS's product of two square matrices, or a copy within its memory."""

from __future__ import annotations

from jittor_worker import prepare, versions
from serve import serve

COPY = {
    "cpu_src": "memcpy(out0_p, in0_p, in0->size);",
    "cuda_src": "cudaMemcpyAsync(out0_p, in0_p, in0->size, cudaMemcpyDeviceToDevice, 0);",
}


def build(task: dict):
    prepare(task)
    return {"product": Product, "copy": Copy}[task["what"]](task)


class Product:
    """Of two matrices of size × size random numbers of the task's type."""

    notes = ()

    def __init__(self, task: dict):
        import jittor as jt

        jt.set_global_seed(0)
        self.left, self.right = (jt.randn((task["size"], task["size"])).cast(task["dtype"]) for _ in range(2))
        jt.sync_all(True)

    def step(self) -> None:
        import jittor as jt

        self.result = jt.matmul(self.left, self.right)
        self.result.sync()

    def finish(self) -> None:
        import jittor as jt

        jt.sync_all(True)


class Copy(Product):
    """Of `size` bytes of random numbers."""

    def __init__(self, task: dict):
        import jittor as jt

        jt.set_global_seed(0)
        self.numbers = jt.randn((task["size"] // 4,))
        jt.sync_all(True)

    def step(self) -> None:
        import jittor as jt

        self.result = jt.code(self.numbers.shape, self.numbers.dtype, [self.numbers], **COPY)
        self.result.sync()


if __name__ == "__main__":
    serve(versions, build)
