"""PyTorch: eager, channels-last, or channels-last through torch.compile."""

from __future__ import annotations

from serve import serve, split_arrays


def versions() -> dict:
    import torch

    return {"torch": torch.__version__}


def build(task: dict):
    import torch

    torch.set_num_threads(task["threads"])
    torch.manual_seed(0)
    return (Training if task["mode"] == "train" else Inference)(task)


class Inference:
    """Logits of the input, in inference mode."""

    notes = ()

    def __init__(self, task: dict):
        self.task = task
        self.load()
        self.model = compiled(self.network.eval(), task)

    def load(self) -> None:
        import torch
        from torch_van import VAN

        weights, picture, labels = split_arrays(self.task)
        last = self.task["channels_last"]
        self.network = VAN(self.task["config"], last)
        load_strict(self.network, weights)
        layout = torch.channels_last if last else torch.contiguous_format
        self.network = self.network.to(memory_format=layout)
        self.picture = torch.from_numpy(picture).contiguous(memory_format=layout)
        self.labels = None if labels is None else torch.from_numpy(labels)

    def step(self) -> None:
        import torch

        with torch.inference_mode():
            self.logits = self.model(self.picture)

    def outputs(self) -> dict:
        self.step()
        return {"logits": self.logits.numpy()}


class Training(Inference):
    """Forward, cross-entropy, backward, AdamW."""

    def __init__(self, task: dict):
        import torch

        self.task = task
        self.load()
        self.model = compiled(self.network.train(), task)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=1e-4, weight_decay=0.05)

    def step(self) -> None:
        self.optimizer.zero_grad()
        self.loss().backward()
        self.optimizer.step()

    def loss(self):
        import torch

        self.logits = self.model(self.picture)
        return torch.nn.functional.cross_entropy(self.logits, self.labels)

    def outputs(self) -> dict:
        """The logits and every gradient with the task's weights, whatever the steps before did."""
        load_strict(self.network, split_arrays(self.task)[0])
        self.optimizer.zero_grad()
        self.loss().backward()
        gradients = {f"gradient {name}": p.grad.numpy() for name, p in self.network.named_parameters()}
        return {"logits": self.logits.detach().numpy(), **gradients}


def compiled(network, task: dict):
    import torch

    return torch.compile(network) if task["compile"] else network


def load_strict(network, weights: dict) -> None:
    """Every parameter and statistic; only BatchNorm's step counters, which say nothing here, are not in `weights`."""
    import torch

    counters = {name: value for name, value in network.state_dict().items() if name.endswith("num_batches_tracked")}
    network.load_state_dict({**counters, **{name: torch.from_numpy(array) for name, array in weights.items()}})


if __name__ == "__main__":
    serve(versions, build)
