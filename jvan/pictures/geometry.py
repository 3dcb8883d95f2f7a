"""Where a picture's pixels go: drawn once, applied to picture, mask and boxes alike, and undone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable

import numpy as np
from PIL import Image

Box = tuple[int, int, int, int]  # left, top, right, bottom; right and bottom lie just outside


@dataclass(frozen=True)
class Geometry:
    """A part of a picture is cut out and resized; a window of that, which may reach beyond it, is cut out and perhaps mirrored.

    `source` and `resized` are (width, height). `part` lies inside the source. `window` is in resized pixels; what of it lies
    outside is padding. A box's coordinates are those of the pixels' edges: pixel i covers i to i + 1.
    """

    source: tuple[int, int]
    part: Box
    resized: tuple[int, int]
    window: Box
    mirrored: bool = False

    @classmethod
    def resize(cls, source: tuple[int, int], size: tuple[int, int], part: Box | None = None) -> Geometry:
        """`part` of the picture, or all of it, becomes `size`."""
        return cls(tuple(source), part or (0, 0, *source), tuple(size), (0, 0, *size))

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the result."""
        left, top, right, bottom = self.window
        return right - left, bottom - top

    def picture(self, picture: Image.Image, resample: int, padding: Callable | None = None) -> Image.Image:
        """The picture's result. `padding(pixels (h, w, …), (top, bottom, left, right))` fills what lies outside; else it is black."""
        if self.part != (0, 0, *picture.size):
            picture = picture.crop(self.part)
        if picture.size != self.resized:
            picture = picture.resize(self.resized, resample)
        if padding is not None and self._outside != (0, 0, 0, 0):
            pixels = padding(np.asarray(picture), self._outside)
            left, top = max(0, self.window[0]), max(0, self.window[1])
            picture = Image.fromarray(pixels[top : top + self.size[1], left : left + self.size[0]])
        elif self.window != (0, 0, *self.resized):
            picture = picture.crop(self.window)
        return picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if self.mirrored else picture

    def mask(self, mask: np.ndarray, outside) -> np.ndarray:
        """(H, W) of the source to (h, w): the nearest value, as OpenCV and PyTorch choose it; `outside` in the padding."""
        if mask.shape[:2] != self.source[::-1]:
            raise ValueError(
                f"the mask is {mask.shape[:2]}, and the picture {self.source[::-1]}; they must be of one size"
            )
        rows, inside_rows = _nearest(self.part[1], self.part[3], self.resized[1], self.window[1], self.window[3])
        columns, inside_columns = _nearest(self.part[0], self.part[2], self.resized[0], self.window[0], self.window[2])
        found = np.full((len(rows), len(columns)), outside, mask.dtype)
        found[np.ix_(inside_rows, inside_columns)] = mask[np.ix_(rows[inside_rows], columns[inside_columns])]
        return np.ascontiguousarray(found[:, ::-1]) if self.mirrored else found

    def boxes(self, boxes: np.ndarray) -> np.ndarray:
        """Boxes (n, 4) of x1, y1, x2, y2 in the source to those in the result; they may reach beyond it."""
        scale, shift = self._affine()
        moved = np.asarray(boxes, np.float64).reshape(-1, 4) * np.tile(scale, 2) + np.tile(shift, 2)
        return _mirrored(moved, self.size[0]) if self.mirrored else moved

    def undo_boxes(self, boxes: np.ndarray) -> np.ndarray:
        """Boxes (n, 4) in the result to those in the source."""
        scale, shift = self._affine()
        boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
        boxes = _mirrored(boxes, self.size[0]) if self.mirrored else boxes
        return (boxes - np.tile(shift, 2)) / np.tile(scale, 2)

    def undo_map(self, values: np.ndarray, outside: float = 0.0) -> np.ndarray:
        """A map (h, w) over the result, of any resolution, to (H, W) over the source, bilinear; `outside` where nothing was seen."""
        values = np.asarray(values, np.float32)
        values = values[:, ::-1] if self.mirrored else values
        (x1, y1, x2, y2), (width, height) = self.seen, self.source
        scale, shift = self._affine()
        rows = ((np.arange(y1, y2) + 0.5) * scale[1] + shift[1]) / self.size[1]
        columns = ((np.arange(x1, x2) + 0.5) * scale[0] + shift[0]) / self.size[0]
        found = np.full((height, width), outside, np.float32)
        found[y1:y2, x1:x2] = _bilinear(_bilinear(values, rows).T, columns).T
        return found

    @property
    def seen(self) -> Box:
        """The pixels of the source whose centres lie in the result."""
        scale, shift = self._affine()
        lowest = (np.zeros(2) - shift) / scale - 0.5
        highest = (np.array(self.size) - shift) / scale - 0.5
        first = np.maximum(np.ceil(lowest - 1e-9), self.part[:2]).astype(int)
        end = np.minimum(np.floor(highest + 1e-9) + 1, self.part[2:]).astype(int)
        return (*map(int, first), *map(int, np.maximum(end, first)))

    @property
    def _outside(self) -> tuple[int, int, int, int]:
        """Rows and columns of the window that the resized part lacks: above, below, left, right."""
        left, top, right, bottom = self.window
        width, height = self.resized
        return max(0, -top), max(0, bottom - height), max(0, -left), max(0, right - width)

    def _affine(self) -> tuple[np.ndarray, np.ndarray]:
        """(scale, shift) of x and y from the source to the result before it is mirrored."""
        part, window = np.array(self.part, np.float64), np.array(self.window, np.float64)
        scale = np.array(self.resized) / (part[2:] - part[:2])
        return scale, -part[:2] * scale - window[:2]


def _nearest(start: int, end: int, resized: int, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
    """(the source's index for each place of the window, whether the place lies inside), along one axis."""
    places = np.arange(first, last)
    inside = (places >= 0) & (places < resized)
    return start + np.clip(places, 0, resized - 1) * (end - start) // resized, inside


def _mirrored(boxes: np.ndarray, width: int) -> np.ndarray:
    return np.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], axis=1)


def _bilinear(values: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Rows of `values` (h, w) at `places` from 0 to 1, by the pixels' centres; the edge goes on outside them."""
    at = np.clip(places * len(values) - 0.5, 0, len(values) - 1)
    low = np.floor(at).astype(int)
    high = np.minimum(low + 1, len(values) - 1)
    weight = (at - low).astype(np.float32)[:, None]
    return values[low] * (1 - weight) + values[high] * weight
