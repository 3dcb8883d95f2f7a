"""A run's curves as a picture."""

from __future__ import annotations

import csv
import warnings
from pathlib import Path

from ..errors import TrainingError
from ..files import replaced


def check_matplotlib() -> None:
    """TrainingError where it is not installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise TrainingError("--plot needs matplotlib; install jvan[plot], or leave --plot out") from None


def draw(folder: Path, figure: str) -> Path:
    """`curves.png` in `folder` from its log.csv and validation.csv: loss, a figure of validation in per cent, learning rate over steps."""
    with warnings.catch_warnings():
        # Jittor's libraries flush subnormal numbers to zero, of which NumPy warns where matplotlib asks for the smallest.
        warnings.simplefilter("ignore", UserWarning)
        return _draw(folder, figure)


def _draw(folder: Path, name: str) -> Path:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    log, validation = _columns(folder / "log.csv"), _columns(folder / "validation.csv")
    figure = Figure(figsize=(9, 9), layout="constrained")
    FigureCanvasAgg(figure)
    loss, best, rate = figure.subplots(3, sharex=True)
    loss.plot(log["step"], log["loss"], linewidth=0.6, label="training")
    if "loss" in validation:
        loss.plot(validation["step"], validation["loss"], marker=".", label="validation")
    loss.set_ylabel("loss")
    loss.legend()
    best.plot(validation["step"], [100 * value for value in validation.get(name, ())], marker=".")
    best.set_ylabel(f"validation {name}, %")
    rate.plot(log["step"], log["lr"])
    rate.set_ylabel("learning rate")
    rate.set_xlabel("step")
    path = folder / "curves.png"
    with replaced(path, follow=False) as place:
        figure.savefig(place, dpi=120, format="png")
    return path


def _columns(path: Path) -> dict[str, list[float]]:
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {name: [float(row[name]) for row in rows] for name in (rows[0] if rows else ("step", "loss", "lr"))}
