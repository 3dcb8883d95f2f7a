"""The benchmark's figure: milliseconds a picture, a panel for every network, size and mode."""

from __future__ import annotations

from pathlib import Path

from ..errors import JvanError

MISSING = "--plot needs matplotlib: pip install '.[plot]'"
# Colours that the colour-blind tell apart (Okabe and Ito); jvan's stands out, engines of one family are close.
COLOURS = {
    "jvan": "#D55E00", "jvan-bf16": "#E69F00", "jittor": "#9A9A9A",
    "torch": "#0072B2", "torch-channels-last": "#3F97D0", "torch-compile": "#8CC6EA",
    "torch-graphs": "#004466", "torch-compile-graphs": "#56B4E9",
    "onnxruntime": "#CC79A7", "openvino": "#009E73", "openvino-bf16": "#7FD1B9",
}  # fmt: skip
PALER = {"fp16": 0.7, "bf16": 0.45}


def check_plot(path: str) -> None:
    """JvanError where the figure could not be written, before anything is measured."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise JvanError(MISSING) from None
    suffix, known = Path(path).suffix[1:].lower(), Figure().canvas.get_supported_filetypes()
    if suffix not in known:
        raise JvanError(f"{path}: the suffix {suffix!r} is no picture format; choose one of {', '.join(sorted(known))}")
    if not Path(path).absolute().parent.is_dir():
        raise JvanError(f"{path}: the folder is not there; make it first")


def plot(document: dict, path: str) -> None:
    """Write the figure of a benchmark's document; the suffix chooses the format."""
    from matplotlib.figure import Figure

    panels = _panels(document)
    if not panels:
        raise JvanError(f"{path}: nothing was measured, so there is nothing to plot")
    widths = [sum(len(_bars(case)) + 1 for case in cases) for cases in panels.values()]
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    size = (columns * max(4.5, 0.4 * max(widths) + 1.2), 3.9 * rows + 0.9)
    figure = Figure(figsize=size, layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axis, (title, cases) in zip(axes, panels.items()):
        _panel(axis, title, cases)
        axis.set_xlim(-0.9, max(widths) - 1.1)  # bars equally wide in all panels
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    _legend(figure, panels)
    machine = document["machine"]
    where = ", ".join(machine.get("gpus", ())) or f"{machine['cpu']}, {document['settings']['threads']} threads"
    figure.suptitle(f"{where}; lower is faster", fontsize=10)
    figure.savefig(path, dpi=150)


def _panels(document: dict) -> dict[str, list[dict]]:
    """The measured cases by network, size and mode: {title: cases that differ in their batch}."""
    panels = {}
    for case in document["cases"]:
        if _bars(case):
            height, width = case["size"]
            mode = "inference" if case["mode"] == "infer" else "training step"
            panels.setdefault(f"{case['arch']}, {height}×{width}, {mode}", []).append(case)
    return panels


def _bars(case: dict) -> list[dict]:
    """An engine that is wrong has no bar."""
    return [entry for entry in case["engines"] if entry["median_ms"] is not None and not entry["wrong"]]


def _panel(axis, title: str, cases: list[dict]) -> None:
    at, ticks, highest = 0.0, [], 0.0
    for case in cases:
        bars = _bars(case)
        for i, entry in enumerate(bars):
            value = entry["median_ms"] / case["batch_size"]
            highest = max(highest, value)
            axis.bar(at + i, value, 0.86, color=_colour(entry["engine"]))
            axis.annotate(_short(value), (at + i, value), (0, 2), textcoords="offset points", ha="center", fontsize=7.5)
        ticks.append((at + (len(bars) - 1) / 2, f"batch {case['batch_size']}"))
        at += len(bars) + 1
    axis.set_title(title, fontsize=10)
    axis.set_xticks([x for x, _ in ticks], [label for _, label in ticks])
    axis.tick_params(axis="x", length=0)
    axis.set_ylim(0, 1.12 * highest)
    axis.set_ylabel("ms a picture")
    axis.spines[["top", "right"]].set_visible(False)


def _legend(figure, panels: dict) -> None:
    from matplotlib.patches import Patch

    names = {entry["engine"]: None for cases in panels.values() for case in cases for entry in _bars(case)}
    handles = [Patch(color=_colour(name), label=name) for name in names]
    columns = max(2, int(figure.get_figwidth() / 1.7))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False, fontsize=8.5)


def _colour(name: str):
    """An engine's own, or in 16 bits a paler one than in float32."""
    from matplotlib.colors import to_rgba

    base, _, precision = name.rpartition("-")
    if name not in COLOURS and precision in PALER:
        return to_rgba(COLOURS.get(base, "#555555"), PALER[precision])
    return to_rgba(COLOURS.get(name, "#555555"))


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 99.5 else f"{value:.1f}" if value >= 9.95 else f"{value:.2f}"
