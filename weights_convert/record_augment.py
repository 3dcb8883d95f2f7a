"""Record what timm 0.4.12 does to training pictures, for tests/datasets: tests/golden/augment.npz.

    pip install torch torchvision "timm==0.4.12" --no-deps; pip install numpy pillow
    python -m weights_convert.record_augment

Single operations are recorded as pixels of a drawn picture. What is random is recorded as quantiles and
shares of many draws; each `…/quantiles` has the values at LEVELS of the cumulative distribution.
"""

from __future__ import annotations

import math
import random
import types
from pathlib import Path

import numpy as np
import PIL
import torch
from PIL import Image

from .original import without_extensions

GOLDEN = Path(__file__).resolve().parents[1] / "tests" / "golden"
DRAWS = 200_000
LEVELS = np.linspace(0.02, 0.98, 49)
MEAN = (0.485, 0.456, 0.406)  # unequal, so that the fill colour shows a wrong order of channels
STD = (0.229, 0.224, 0.225)
SIGNED = ("Rotate", "ColorIncreasing", "ContrastIncreasing", "BrightnessIncreasing", "SharpnessIncreasing",
          "ShearX", "ShearY", "TranslateXRel", "TranslateYRel")  # fmt: skip
FILTERED = ("Rotate", "ShearX", "ShearY", "TranslateXRel", "TranslateYRel")
UNLEVELLED = ("AutoContrast", "Equalize", "Invert")


without_extensions("torchvision", ())
without_extensions("timm", (".data",))
from timm.data import auto_augment, mixup, random_erasing, transforms  # noqa: E402
from timm.data.transforms_factory import transforms_imagenet_train  # noqa: E402


def drawing(height: int, width: int, seed: int = 0) -> Image.Image:
    """A picture with slopes, an edge and noise, the same in every version of numpy."""
    y, x = np.mgrid[:height, :width]
    noise = np.random.RandomState(seed).randint(0, 40, (height, width, 3))
    slopes = np.stack([200 * x / (width - 1), 200 * y / (height - 1), 90 + 90 * (x + y > width)], axis=-1)
    return Image.fromarray((slopes + noise).astype(np.uint8))


def quantiles(values) -> np.ndarray:
    return np.quantile(np.asarray(values, np.float64), LEVELS, method="inverted_cdf")


def record_operations() -> dict[str, np.ndarray]:
    """Each operation of the increasing set at four levels, both signs, both filters where they matter."""
    picture = drawing(20, 24)
    fill = tuple(min(255, round(255 * x)) for x in MEAN)
    made = {"operation/picture": np.asarray(picture), "operation/fill": np.array(fill)}
    for name in auto_augment._RAND_INCREASING_TRANSFORMS:
        for level in (9.0,) if name in UNLEVELLED else (0.0, 4.7, 9.0, 10.0):
            for sign in (1, -1) if name in SIGNED else (1,):
                for resample in (Image.BILINEAR, Image.BICUBIC) if name in FILTERED else (Image.BILINEAR,):
                    auto_augment._randomly_negate = lambda value, sign=sign: sign * value
                    made_of = auto_augment.LEVEL_TO_ARG[name]
                    arguments = made_of(level, {}) if made_of else ()
                    if name.startswith("Posterize") and arguments == (0,):
                        result = picture.point([0] * 768)  # as Pillow did it then; today's refuses 0 bits
                    else:
                        function = auto_augment.NAME_TO_OP[name]
                        result = function(picture, *arguments, fillcolor=fill, resample=resample)
                    made[f"operation/{name}/{level}/{sign}/{int(resample)}"] = np.asarray(result)
    return made


def record_crops() -> dict[str, np.ndarray]:
    """RandomResizedCrop on an ordinary picture, and on one so narrow that most draws fail."""
    made = {}
    for width, height in ((500, 375), (60, 400)):
        picture = types.SimpleNamespace(size=(width, height))
        get = transforms.RandomResizedCropAndInterpolation.get_params
        boxes = np.array([get(picture, (0.08, 1.0), (3 / 4, 4 / 3)) for _ in range(DRAWS)], np.float64)
        top, left, tall, wide = boxes.T
        prefix = f"crop/{width}x{height}"
        made[f"{prefix}/area/quantiles"] = quantiles(tall * wide / (width * height))
        made[f"{prefix}/log_aspect/quantiles"] = quantiles(np.log(wide / tall))
        made[f"{prefix}/top/quantiles"] = quantiles(top)
        made[f"{prefix}/left/quantiles"] = quantiles(left)
        made[f"{prefix}/mean"] = boxes.mean(0)
    return made


def record_rand_augment() -> dict[str, np.ndarray]:
    """How many operations are applied, which, at which level: rand-m9-mstd0.5-inc1."""
    chosen: list[tuple[int, float]] = []
    names = auto_augment._RAND_INCREASING_TRANSFORMS
    augment = auto_augment.rand_augment_transform("rand-m9-mstd0.5-inc1", {"img_mean": (128, 128, 128)})
    for number, operation in enumerate(augment.ops):
        operation.level_fn = lambda level, _, number=number: chosen.append((number, level)) or (level,)
        operation.aug_fn = lambda count, level, **_: count + 1
    counts = np.bincount([augment(0) for _ in range(DRAWS)], minlength=3)
    signs = [auto_augment._randomly_negate(1) for _ in range(DRAWS)]
    return {
        "rand/names": np.array(names),
        "rand/applied": counts / DRAWS,
        "rand/shares": np.bincount([number for number, _ in chosen], minlength=len(names)) / len(chosen),
        "rand/level/quantiles": quantiles([level for _, level in chosen]),
        "rand/level/clipped": np.mean([level == 10 for _, level in chosen]),
        "rand/negative": np.mean(np.array(signs) < 0),
    }


class Canvas:
    """Notes where a box is written."""

    def __init__(self):
        self.box = None

    def __setitem__(self, slices, values):
        _, rows, columns = slices
        self.box = (rows.start, columns.start, rows.stop - rows.start, columns.stop - columns.start)


def record_erasing() -> dict[str, np.ndarray]:
    """RandomErasing as the recipe sets it, on 224 × 224 and on a flat picture."""
    made = {}
    for height, width in ((224, 224), (40, 160)):
        eraser = random_erasing.RandomErasing(0.25, mode="pixel", max_count=1, device="cpu")
        boxes = []
        for _ in range(DRAWS):
            canvas = Canvas()
            eraser._erase(canvas, 0, height, width, torch.float32)
            boxes.append(canvas.box)
        found = np.array([box for box in boxes if box], np.float64)
        top, left, tall, wide = found.T
        prefix = f"erase/{height}x{width}"
        made[f"{prefix}/share"] = len(found) / DRAWS
        made[f"{prefix}/area/quantiles"] = quantiles(tall * wide / (height * width))
        made[f"{prefix}/log_aspect/quantiles"] = quantiles(np.log(tall / wide))
        made[f"{prefix}/top/quantiles"] = quantiles(top)
        made[f"{prefix}/left/quantiles"] = quantiles(left)
    noise = random_erasing._get_pixels(True, False, (3, 50, 50), device="cpu").numpy()
    made["erase/noise"] = np.array([noise.mean(), noise.std()])
    return made


def record_mixing() -> dict[str, np.ndarray]:
    """Weights and boxes of the recipe's mixup; and, exactly, what given ones make of pictures and labels."""
    recipe = {"mixup_alpha": 0.8, "cutmix_alpha": 1.0, "switch_prob": 0.5, "label_smoothing": 0.1, "num_classes": 7}
    mixer = mixup.FastCollateMixup(**recipe)
    drawn = [mixer._params_per_batch() for _ in range(DRAWS)]
    cut = np.array([use for _, use in drawn], bool)
    weights = np.array([weight for weight, _ in drawn])
    boxes, inside = [], []
    for weight in weights[cut][:50_000]:
        box, corrected = mixup.cutmix_bbox_and_lam((3, 64, 64), weight)
        boxes.append(box)
        inside.append(corrected)
    top, bottom, left, right = np.array(boxes, np.float64).T
    made = {
        "mix/cut": cut.mean(),
        "mix/mixup/quantiles": quantiles(weights[~cut]),
        "mix/cutmix/quantiles": quantiles(inside),
        "mix/top/quantiles": quantiles(top),
        "mix/height/quantiles": quantiles(bottom - top),
        "mix/left/quantiles": quantiles(left),
        "mix/width/quantiles": quantiles(right - left),
    }
    pictures = np.stack([np.asarray(drawing(16, 16, seed)).transpose(2, 0, 1) for seed in range(4)])
    labels = np.array([1, 5, 0, 5])
    made.update({"mix/pictures": pictures, "mix/labels": labels})
    for name, weight, box in (("mixup", 0.3, None), ("cutmix", 0.75, (2, 10, 5, 13)), ("none", 1.0, None)):
        mixer._params_per_batch = lambda weight=weight, box=box: (weight, box is not None)
        mixup.cutmix_bbox_and_lam = lambda *_, weight=weight, box=box, **__: (box, weight)
        mixed, targets = mixer(list(zip(pictures, labels)))
        made[f"mix/{name}/weight"], made[f"mix/{name}/box"] = weight, np.array(box or ())
        made[f"mix/{name}/pictures"], made[f"mix/{name}/targets"] = mixed.numpy(), targets.numpy()
    return made


def record_whole(auto: str | None, draws: int = 30_000) -> dict[str, np.ndarray]:
    """The average of the whole transform's outputs in 4 × 4 fields, of their squares, and these averages' errors.

    Erasing is applied as the prefetching loader does, after normalisation.
    """
    picture = drawing(48, 56)
    transform = transforms_imagenet_train(
        32,
        auto_augment=auto,
        color_jitter=0.4,
        interpolation="random",
        mean=MEAN,
        std=STD,
        re_prob=0.25,
        re_mode="pixel",
    )
    fields = []
    for _ in range(draws):
        out = transform(picture).numpy().reshape(3, 4, 8, 4, 8)
        fields.append(np.stack([out.mean((2, 4)), (out**2).mean((2, 4))]))
    fields = np.array(fields)
    name = f"whole/{'rand' if auto else 'jitter'}"
    return {
        f"{name}/mean": fields.mean(0).astype(np.float32),
        f"{name}/deviation": fields.std(0).astype(np.float32),
        f"{name}/draws": np.array(draws),
    }


def main() -> None:
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    recorded = {
        "levels": LEVELS, "mean": np.array(MEAN), "std": np.array(STD), "pillow": np.array(PIL.__version__),
        "whole/picture": np.asarray(drawing(48, 56)),
        **record_operations(), **record_crops(), **record_rand_augment(), **record_erasing(), **record_mixing(),
    }  # fmt: skip
    # What was replaced to look inside is put back before the whole is run.
    auto_augment._randomly_negate = lambda value: -value if random.random() > 0.5 else value
    clipped = auto_augment.posterize
    auto_augment.NAME_TO_OP["PosterizeIncreasing"] = lambda picture, bits, **rest: (
        clipped(picture, bits, **rest) if bits else picture.point([0] * 768)
    )
    recorded.update({**record_whole("rand-m9-mstd0.5-inc1"), **record_whole(None)})
    shapes = {key: value for key, value in recorded.items() if not np.issubdtype(np.asarray(value).dtype, np.str_)}
    bad = [key for key, value in shapes.items() if not np.isfinite(value).all()]
    if bad or not math.isclose(float(recorded["rand/shares"].sum()), 1):
        raise ValueError(f"not finite: {bad}")
    np.savez_compressed(GOLDEN / "augment.npz", **recorded)


if __name__ == "__main__":
    main()
