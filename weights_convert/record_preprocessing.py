"""Record what torchvision makes of the test pictures, for tests/pictures/test_preprocess.py.

    pip install torch torchvision numpy pillow
    python weights_convert/record_preprocessing.py

The steps are those of timm 0.4.12, which the official code evaluates with:
`Image.open(path).convert("RGB")`, Resize(int(size / crop_pct)), CenterCrop(size), ToTensor,
Normalize(mean, std). Pictures without a rotation tag only: this pipeline ignores the tag.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import sys
import types
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = ROOT / "tests" / "pictures" / "golden"
PICTURES = ["examples/cat.jpg", *sorted(f"tests/data/{p.name}" for p in (ROOT / "tests/data").glob("*.[jp][pn]g"))]
HALF, IMAGENET = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)), ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
SETTINGS = {
    "official": (224, 0.9, "bicubic", *HALF),
    "imagenet": (224, 0.875, "bicubic", *IMAGENET),
    "whole": (225, 1.0, "bilinear", *IMAGENET),
    "small": (97, 0.95, "lanczos", *HALF),
    "nearest": (64, 0.8, "nearest", *HALF),
}


def transforms_module():
    """torchvision.transforms alone: its package's C extension wants a torch build of the same release."""
    spec = importlib.util.find_spec("torchvision")
    package = types.ModuleType("torchvision")
    package.__path__ = list(spec.submodule_search_locations)
    sys.modules["torchvision"] = package
    return importlib.import_module("torchvision.transforms")


def pipeline(transforms, size, crop_pct, interpolation, mean, std):
    """The picture's crop, and the tensor made of it: two functions."""
    mode = transforms.InterpolationMode(interpolation)
    crop = transforms.Compose([transforms.Resize(int(size / crop_pct), mode), transforms.CenterCrop(size)])
    return crop, transforms.Compose([transforms.ToTensor(), transforms.Normalize(mean, std)])


def record(transforms) -> dict:
    """Hashes of every crop and input by setting and picture; the official crops as PNG files."""
    hashes = {}
    for name, setting in SETTINGS.items():
        crop, to_input = pipeline(transforms, *setting)
        for picture in PICTURES:
            cropped = crop(Image.open(ROOT / picture).convert("RGB"))
            array = to_input(cropped).contiguous().numpy()
            assert array.dtype == "float32" and array.shape == (3, setting[0], setting[0])
            digests = [hashlib.sha256(data).hexdigest() for data in (cropped.tobytes(), array.tobytes())]
            hashes.setdefault(name, {})[picture] = dict(zip(("crop", "input"), digests))
            if name == "official":
                cropped.save(GOLDEN / f"{Path(picture).stem}.png", optimize=True)
    return hashes


def main() -> None:
    transforms = transforms_module()
    GOLDEN.mkdir(parents=True, exist_ok=True)
    names = ("torch", "torchvision", "pillow")
    versions = {name: importlib.metadata.version(name) for name in names}
    document = {"recorded_with": versions, "settings": SETTINGS, "sha256": record(transforms)}
    (GOLDEN / "preprocessing.json").write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
