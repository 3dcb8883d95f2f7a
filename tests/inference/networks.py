"""A network whose answer is known beforehand."""

from dataclasses import replace

import jittor as jt

from jvan.checkpoints.metadata import Metadata
from jvan.preprocessing import Preprocessing
from jvan.variants import variant_config


class MeanColour(jt.nn.Module):
    """Logits that are the means of the input's channels, times `scale`; remembers the batches' sizes."""

    def __init__(self, scale=1.0, **metadata):
        self.scale, self.batches = scale, []
        config = variant_config("van_b0", num_classes=3)
        preprocessing = Preprocessing(size=32, crop_pct=1.0)
        self.metadata = replace(Metadata(config, preprocessing, labels=("r", "g", "b")), **metadata)

    def execute(self, x):
        assert not self.is_training()
        self.batches.append(x.shape[0])
        return x.mean(dims=(2, 3)) * self.scale
