"""PyTorch: eager, channels-last, through torch.compile, or as a CUDA graph."""

from __future__ import annotations

from serve import resident_mb, serve, split_arrays


def versions() -> dict:
    import torch

    return {"torch": torch.__version__}


def build(task: dict):
    import torch
    from torch_device import prepare

    prepare(task)
    torch.set_num_threads(task["threads"])
    torch.manual_seed(0)
    return (Training if task["mode"] == "train" else Inference)(task)


class Inference:
    """Logits of the input, in inference mode. Pictures are float32 in every precision, as they come from a loader."""

    def __init__(self, task: dict):
        from torch_device import Precision

        self.task, self.notes = task, []
        self.load()
        self.network.eval()
        self.precision = Precision(task)
        self.precision.convert(self.network)
        self.settle()

    def load(self) -> None:
        import torch
        from torch_van import VAN

        weights, picture, labels = split_arrays(self.task)
        last, device = self.task["channels_last"], self.task["device"]
        self.network = VAN(self.task["config"], self.task["stages"], last)
        load_strict(self.network, weights)
        layout = torch.channels_last if last else torch.contiguous_format
        self.network = self.network.to(device, memory_format=layout)
        self.picture = torch.from_numpy(picture).to(device).contiguous(memory_format=layout)
        self.labels = None if labels is None else torch.from_numpy(labels).to(device)

    def settle(self) -> None:
        """Compile the network and capture an iteration, where the task says so."""
        import torch
        from torch_device import captured

        self.model = torch.compile(self.network) if self.task["compile"] else self.network
        self.run = captured(self.iteration) if self.task.get("graph") else self.iteration

    def step(self) -> None:
        self.run()

    def iteration(self) -> None:
        import torch

        with torch.inference_mode():
            self.logits = self.forward()

    def forward(self):
        with self.precision.context():
            return self.model(self.precision.input(self.picture))

    def outputs(self) -> dict:
        self.step()
        return {"logits": to_numpy(self.logits)}

    def finish(self) -> None:
        if self.task["device"] == "cuda":
            import torch

            torch.cuda.synchronize()

    def peak_mb(self) -> float:
        """On a GPU, what PyTorch's allocator has taken of its memory, which is what Jittor's can say of itself, too."""
        if self.task["device"] != "cuda":
            return resident_mb()
        import torch

        return torch.cuda.max_memory_reserved() / 1e6


class Training(Inference):
    """Forward, cross-entropy, backward, AdamW."""

    def __init__(self, task: dict):
        import torch
        from torch_device import Precision

        self.task, self.notes = task, []
        self.load()
        self.network.train()
        self.precision = Precision(task)
        # On a GPU the fused update is PyTorch's fastest, and the only one without a look at the host.
        gpu = {"fused": True, "capturable": bool(task.get("graph"))} if task["device"] == "cuda" else {}
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=1e-4, weight_decay=0.05, **gpu)
        self.settle()

    def iteration(self) -> None:
        import torch

        self.optimizer.zero_grad()
        self.logits = self.forward()
        torch.nn.functional.cross_entropy(self.logits.float(), self.labels).backward()
        self.optimizer.step()

    def outputs(self) -> dict:
        """The logits and every gradient with the task's weights, whatever the steps before did."""
        load_strict(self.network, split_arrays(self.task)[0])
        self.step()
        gradients = {f"gradient {name}": to_numpy(p.grad) for name, p in self.network.named_parameters()}
        return {"logits": to_numpy(self.logits), **gradients}


def to_numpy(tensor):
    return tensor.detach().float().cpu().numpy()


def load_strict(network, weights: dict) -> None:
    """Every parameter and statistic; only BatchNorm's step counters, which say nothing here, are not in `weights`."""
    import torch

    counters = {name: value for name, value in network.state_dict().items() if name.endswith("num_batches_tracked")}
    network.load_state_dict({**counters, **{name: torch.from_numpy(array) for name, array in weights.items()}})


if __name__ == "__main__":
    serve(versions, build)
