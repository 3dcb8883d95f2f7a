"""One geometry for picture, mask and boxes, against each other and against numpy; and the way back."""

import numpy as np
import pytest
from PIL import Image

from jvan.pictures.geometry import Geometry

NEAREST, BILINEAR = Image.Resampling.NEAREST, Image.Resampling.BILINEAR
DRAWN = [  # source, part, resized, window, mirrored
    Geometry((40, 30), (0, 0, 40, 30), (80, 60), (8, 4, 72, 60)),
    Geometry((40, 30), (10, 5, 30, 25), (60, 60), (0, 0, 60, 60), mirrored=True),
    Geometry((40, 30), (0, 0, 40, 30), (40, 30), (-4, -3, 36, 40), mirrored=True),
    Geometry((41, 29), (3, 2, 38, 27), (70, 75), (-5, 6, 90, 51)),
    Geometry((40, 30), (4, 4, 24, 24), (20, 20), (2, 3, 18, 19)),
]


def picture_of(mask):
    return Image.fromarray(mask.astype(np.uint8))


@pytest.mark.parametrize("geometry", DRAWN)
def test_a_box_is_where_its_pixels_are(geometry):
    """A rectangle drawn into picture and mask; whole scales, so that its edges stay edges."""
    mask = np.zeros(geometry.source[::-1], np.uint8)
    mask[12:18, 14:22] = 200
    moved = geometry.boxes([[14, 12, 22, 18]])[0]
    width, height = geometry.size
    columns, rows = np.arange(width) + 0.5, np.arange(height) + 0.5
    inside = ((rows > moved[1]) & (rows < moved[3]))[:, None] & (columns > moved[0]) & (columns < moved[2])
    found = geometry.mask(mask, 0)
    drawn = np.asarray(geometry.picture(picture_of(mask), NEAREST))
    assert found.shape == drawn.shape == (height, width) and found.any()
    if np.allclose(np.array(geometry.resized) % np.subtract(geometry.part[2:], geometry.part[:2]), 0):
        assert np.array_equal(found > 0, inside) and np.array_equal(drawn, found)
    else:
        assert np.abs(found.astype(bool) ^ inside).sum() <= inside.sum() * 0.15
    np.testing.assert_allclose(geometry.undo_boxes([moved])[0], [14, 12, 22, 18], atol=1e-9)


def test_masks_take_the_nearest_value_as_opencv_does():
    """⌊i · source / size⌋, in whole numbers; outside it is the given label."""
    mask = np.arange(7 * 5).reshape(5, 7)
    geometry = Geometry((7, 5), (0, 0, 7, 5), (17, 9), (-1, 0, 17, 10))
    found = geometry.mask(mask, 255)
    wanted = mask[np.arange(9) * 5 // 9][:, np.arange(17) * 7 // 17]
    assert np.array_equal(found[:9, 1:], wanted) and (found[9] == 255).all() and (found[:, 0] == 255).all()
    with pytest.raises(ValueError, match=r"the mask is \(4, 7\), and the picture \(5, 7\)"):
        geometry.mask(mask[:4], 255)


@pytest.mark.parametrize("geometry", DRAWN)
def test_a_map_goes_back_to_where_it_was_seen(geometry):
    """A map that is linear in the source's coordinates comes back as itself, but for the edges that are continued."""
    width, height = geometry.size
    corners = np.stack([np.arange(width) + 0.5, np.zeros(width), np.arange(width) + 0.5, np.zeros(width)], axis=1)
    columns = geometry.undo_boxes(corners)[:, 0]
    corners = np.stack([np.zeros(height), np.arange(height) + 0.5, np.zeros(height), np.arange(height) + 0.5], axis=1)
    rows = geometry.undo_boxes(corners)[:, 1]
    back = geometry.undo_map(3 * columns[None] + 2 * rows[:, None], outside=-1000)
    x, y = np.meshgrid(np.arange(geometry.source[0]) + 0.5, np.arange(geometry.source[1]) + 0.5)
    x1, y1, x2, y2 = geometry.seen
    seen = np.zeros(geometry.source[::-1], bool)
    seen[y1:y2, x1:x2] = True
    assert seen.any() and (back[~seen] == -1000).all()
    inner = seen.copy()
    inner[y1 : y1 + 2] = inner[y2 - 2 : y2] = inner[:, x1 : x1 + 2] = inner[:, x2 - 2 : x2] = False
    np.testing.assert_allclose(back[inner], (3 * x + 2 * y)[inner], rtol=1e-4)
    boxes = geometry.boxes(np.stack([x.ravel(), y.ravel()] * 2, axis=1))
    part = geometry.part
    inside = (
        (boxes[:, 0] >= -1e-6) & (boxes[:, 0] <= width + 1e-6) & (boxes[:, 1] >= -1e-6) & (boxes[:, 1] <= height + 1e-6)
    )
    inside &= ((x > part[0]) & (x < part[2]) & (y > part[1]) & (y < part[3])).ravel()
    assert np.array_equal(inside.reshape(seen.shape), seen)


def test_a_coarse_map_is_enlarged_as_pytorch_does_it():
    """align_corners=False: the values lie at the cells' centres, and the edge goes on outside them."""
    back = Geometry.resize((8, 8), (224, 224)).undo_map(np.float32([[0, 1], [2, 3]]))
    along = np.clip((np.arange(8) + 0.5) / 4 - 0.5, 0, 1)
    np.testing.assert_allclose(back, along[None] + 2 * along[:, None], atol=1e-6)


def test_padding_is_the_callers():
    pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    geometry = Geometry((4, 4), (0, 0, 4, 4), (4, 4), (-1, 0, 3, 6))
    black = np.asarray(geometry.picture(Image.fromarray(pixels), BILINEAR))
    assert not black[:, 0].any() and not black[4:].any() and np.array_equal(black[:4, 1:], pixels[:, :3])
    sides = []

    def reflected(array, outside):
        sides.append(outside)
        return np.pad(array, (outside[:2], outside[2:], (0, 0)), mode="reflect")

    found = np.asarray(geometry.picture(Image.fromarray(pixels), BILINEAR, reflected))
    assert sides == [(0, 2, 1, 0)]
    assert np.array_equal(found, np.pad(pixels, ((0, 2), (1, 0), (0, 0)), mode="reflect")[:, :4])
