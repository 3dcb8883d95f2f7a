"""The picture operations of RandAugment at a given strength, as timm 0.4.12 defines them (its "increasing" set).

Each takes an RGB picture, a level from 0 to 10, a sign (+1 or -1, used where an operation has a direction),
the fill colour for what comes in from outside, and the resampling filter.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

MAX_LEVEL = 10.0
TRANSLATION, SHEAR, DEGREES, ENHANCEMENT = 0.45, 0.3, 30.0, 0.9  # at the highest level


def _affine(picture, matrix, fill, resample):
    return picture.transform(picture.size, Image.Transform.AFFINE, matrix, resample=resample, fillcolor=fill)


def auto_contrast(picture, level, sign, fill, resample):
    return ImageOps.autocontrast(picture)


def equalize(picture, level, sign, fill, resample):
    return ImageOps.equalize(picture)


def invert(picture, level, sign, fill, resample):
    return ImageOps.invert(picture)


def rotate(picture, level, sign, fill, resample):
    return picture.rotate(sign * (level / MAX_LEVEL * DEGREES), resample=resample, fillcolor=fill)


def posterize(picture, level, sign, fill, resample):
    """Keep 4 bits at level 0, none (a black picture) at level 10, which Pillow's own `posterize` now refuses."""
    bits = 4 - int(level / MAX_LEVEL * 4)
    return picture.point([value & (256 - 2 ** (8 - bits)) for value in range(256)] * 3)


def solarize(picture, level, sign, fill, resample):
    """Invert what is at least 256 at level 0 (nothing), at least 0 (everything) at level 10."""
    return ImageOps.solarize(picture, 256 - int(level / MAX_LEVEL * 256))


def solarize_add(picture, level, sign, fill, resample):
    """Brighten the darker half of the values, by up to 110."""
    values = np.arange(256)
    table = np.where(values < 128, np.minimum(values + int(level / MAX_LEVEL * 110), 255), values)
    return picture.point(table.tolist() * 3)


def _enhanced(kind):
    def enhance(picture, level, sign, fill, resample):
        return kind(picture).enhance(1.0 + sign * (level / MAX_LEVEL * ENHANCEMENT))

    return enhance


def shear_x(picture, level, sign, fill, resample):
    return _affine(picture, (1, sign * (level / MAX_LEVEL * SHEAR), 0, 0, 1, 0), fill, resample)


def shear_y(picture, level, sign, fill, resample):
    return _affine(picture, (1, 0, 0, sign * (level / MAX_LEVEL * SHEAR), 1, 0), fill, resample)


def translate_x(picture, level, sign, fill, resample):
    pixels = sign * (level / MAX_LEVEL * TRANSLATION) * picture.width
    return _affine(picture, (1, 0, pixels, 0, 1, 0), fill, resample)


def translate_y(picture, level, sign, fill, resample):
    pixels = sign * (level / MAX_LEVEL * TRANSLATION) * picture.height
    return _affine(picture, (1, 0, 0, 0, 1, pixels), fill, resample)


INCREASING = {
    "AutoContrast": auto_contrast,
    "Equalize": equalize,
    "Invert": invert,
    "Rotate": rotate,
    "PosterizeIncreasing": posterize,
    "SolarizeIncreasing": solarize,
    "SolarizeAdd": solarize_add,
    "ColorIncreasing": _enhanced(ImageEnhance.Color),
    "ContrastIncreasing": _enhanced(ImageEnhance.Contrast),
    "BrightnessIncreasing": _enhanced(ImageEnhance.Brightness),
    "SharpnessIncreasing": _enhanced(ImageEnhance.Sharpness),
    "ShearX": shear_x,
    "ShearY": shear_y,
    "TranslateXRel": translate_x,
    "TranslateYRel": translate_y,
}
