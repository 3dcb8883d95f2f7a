"""Draw docs/van.svg, the figure of README.md: `python -m tools.draw_van`."""

from __future__ import annotations

from pathlib import Path

TARGET = Path(__file__).parents[1] / "docs" / "van.svg"
STAGES = ("picture", "stage 1\n1/4", "stage 2\n1/8", "stage 3\n1/16", "stage 4\n1/32", "classes")
ATTENTION = ("x", "5×5 depthwise", "7×7 depthwise,\ndilation 3", "1×1", "×", "output")
FILLS = {"picture": "#f4f4f4", "classes": "#f4f4f4", "x": "#f4f4f4", "output": "#f4f4f4", "×": "#ffe6b3"}
WIDTH, BOX, GAP = 820, 110, 26


def box(x, y, text):
    """A box with its lines of text, as SVG."""
    lines = text.split("\n")
    parts = [
        f'<rect x="{x}" y="{y}" width="{BOX}" height="44" rx="6" fill="{FILLS.get(text, "#dbe9fb")}" stroke="#456"/>'
    ]
    for number, line in enumerate(lines):
        height = y + 27 - 8 * (len(lines) - 1) + 16 * number
        parts.append(f'<text x="{x + BOX // 2}" y="{height}" text-anchor="middle">{line}</text>')
    return parts


def row(y, texts):
    """Boxes from left to right, joined by arrows, as SVG."""
    parts = []
    for number, text in enumerate(texts):
        x = 14 + number * (BOX + GAP)
        parts += box(x, y, text)
        if number:
            parts.append(f'<path d="M{x - GAP} {y + 22}H{x - 3}" stroke="#456" marker-end="url(#tip)"/>')
    return parts


def figure():
    """The whole figure, as the text of an SVG file."""
    left, right = 14 + BOX // 2, 14 + 4 * (BOX + GAP) + BOX // 2
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} 240" font-family="sans-serif" font-size="13">'
    tip = '<defs><marker id="tip" markerWidth="7" markerHeight="6" refX="5" refY="3" orient="auto"><path d="M0 0L6 3L0 6z" fill="#456"/></marker></defs>'
    skip = f'<path d="M{left} 182V222H{right}V185" fill="none" stroke="#456" marker-end="url(#tip)"/>'
    titles = (
        '<text x="14" y="20" font-weight="bold">VAN: four stages, each with smaller and deeper maps</text>',
        '<text x="14" y="124" font-weight="bold">Large kernel attention, inside every block</text>',
    )
    return "\n".join(
        [
            head,
            '<rect width="100%" height="100%" fill="white"/>',
            tip,
            *titles,
            *row(34, STAGES),
            *row(138, ATTENTION),
            skip,
            "</svg>\n",
        ]
    )


if __name__ == "__main__":
    TARGET.write_text(figure(), encoding="utf-8")
