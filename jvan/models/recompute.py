"""Gradient checkpointing: a module's maps are made again for its backward pass instead of being kept."""

from __future__ import annotations

import contextlib

import jittor as jt


class _Run:
    """A first run of a module, whose random draws are recorded, or a later one that repeats them."""

    def __init__(self, draws=None):
        self.is_first = draws is None
        self.draws = [] if draws is None else list(draws)

    def draw(self, make):
        if not self.is_first:
            return self.draws.pop(0)
        self.draws.append(make())
        return self.draws[-1]


_OUTSIDE = _current = _Run()


def draw(make):
    """make(), a random jt.Var; when a checkpointed module runs again, what it was the first time."""
    return _current.draw(make) if is_checkpointed() else make()


def is_checkpointed() -> bool:
    """Whether a checkpointed module runs."""
    return _current is not _OUTSIDE


def is_first_run() -> bool:
    """False while a checkpointed module runs again, when running statistics must not move a second time."""
    return _current.is_first


def checkpoint(module, x):
    """module(x), of which nothing is kept for the backward pass but x and the random draws.

    The module takes and returns one jt.Var, draws its random numbers through `draw`, and moves statistics only where
    `is_first_run`. Its gradients are those that it has without checkpointing; there is one backward pass an output,
    RuntimeError at a second one or where the module was switched between training and evaluation before it.
    """
    learned = _learned(module)
    if jt.flags.no_grad or (x.is_stop_grad() and not learned):
        return module(x)
    return _Checkpoint()(module, x, *learned)


class _Checkpoint(jt.Function):
    def execute(self, module, x, *_learned):
        self.module, self.x = module, x
        self.mode = _mode(module)
        self.needs_dx = not x.is_stop_grad()
        with _as(_Run()) as run, jt.no_grad():
            out = module(x.detach())
        self.draws = run.draws
        # An output that was made without gradients would silently make those before it zero.
        return out.start_grad()

    def grad(self, dout):
        self._check()
        dout = dout.detach()  # it depends on the parameters too, by way of the first run
        # Jittor runs the graph once this has returned and lets go of this object last of all: it must not keep x.
        x, self.x = _not_before(dout, self.x.detach()), None
        if not self.needs_dx:
            x.stop_grad()
        with _as(_Run(self.draws)):
            out = self.module(x)
        targets = [x] * self.needs_dx + _learned(self.module)
        # Without its graph, or all that the recomputed graph holds would stay until the last module is through.
        gradients = jt.grad((out * dout).sum(), targets, retain_graph=False)
        return (None,) * (1 + (not self.needs_dx)) + tuple(gradients)

    def _check(self):
        if self.x is None:
            raise RuntimeError(
                "gradient checkpointing keeps nothing for a second backward pass over the same output; "
                "take all gradients at once, or call set_grad_checkpointing(False)"
            )
        if self.mode != _mode(self.module):
            raise RuntimeError(
                "gradient checkpointing runs the network again in the backward pass, and train(), eval() or freeze() was "
                "called since the forward pass; take the gradients first"
            )


def _not_before(earlier, x):
    """x, once `earlier` is there: Jittor runs what it can, and could make several modules' maps at once."""
    # Both choices are x, whatever the condition: arithmetic with `earlier` would spread what is not finite in it.
    first = earlier.reshape((-1,))[:1].float32()  # of bfloat16 on the CPU, Jittor's comparison with 0 does not compile
    condition = first.reshape((1,) * x.ndim).broadcast(x.shape) > 0
    return jt.ternary(condition, x, x)


def _mode(module):
    """What of a module decides which gradients it has: whether its parts train, and which parameters learn."""
    return [getattr(m, "is_train", None) for m in module.modules()], [id(p) for p in _learned(module)]


def _learned(module):
    return [p for p in module.parameters() if p.requires_grad]


@contextlib.contextmanager
def _as(run):
    global _current
    before, _current = _current, run
    try:
        yield run
    finally:
        _current = before
