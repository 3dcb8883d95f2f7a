"""An engine without a network: its clock runs by the task's `seconds`, and `fault` befalls it in step number `at`."""

import importlib
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "jvan" / "benchmarking" / "workers"))
import serve


class Clock:
    now = 0.0

    @classmethod
    def perf_counter(cls):
        return cls.now


class Engine:
    notes = ("a note",)

    def __init__(self, task):
        self.task, self.steps = task, 0
        _, self.picture, _ = serve.split_arrays(task)

    def step(self):
        self.steps += 1
        with open(self.task["diary"], "a", encoding="utf-8") as diary:
            diary.write(f"{self.task['name']}\n")
        if self.steps == self.task.get("at"):
            getattr(self, self.task["fault"])()
        Clock.now += self.task["seconds"] * (self.task.get("drift", 1) ** self.steps)

    def die(self):
        print("\x1b[38;5;1mlast words\x1b[m", file=sys.stderr, flush=True)
        os._exit(3)

    def meet(self):
        """Wait for the first step of every other engine, which never comes where they start one after another."""
        end = time.monotonic() + 20
        while len(set(Path(self.task["diary"]).read_text().split())) < self.task["others"] + 1:
            if time.monotonic() > end:
                raise TimeoutError("nobody else has started")
            time.sleep(0.01)

    def killed(self):
        os.kill(os.getpid(), signal.SIGKILL)

    def fail(self):
        raise ValueError("no such\nlayer")

    def interrupt(self, number=signal.SIGINT):
        os.kill(os.getppid(), number)
        time.sleep(60)

    def terminate(self):
        self.interrupt(signal.SIGTERM)

    def outputs(self):
        if self.task.get("fault") == "shape":
            return {"logits": self.picture}
        return {"logits": self.picture.sum((1, 2, 3)) * np.float32(self.task.get("factor", 1))}

    def profile(self):
        return [["matmul", 3, 1.5], ["add", 2, 0.5]]


def versions():
    print("a library that prints to standard output")
    importlib.import_module(os.environ.get("FAKE_NEEDS", "numpy"))
    serve.time = Clock
    return {"fake": "1.0"}


if __name__ == "__main__":
    serve.serve(versions, Engine)
