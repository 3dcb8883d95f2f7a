"""VAN as the backbone of a dense task: the pyramid of features, a small head, a few training steps."""

import jvan  # before Jittor, whose environment it prepares  # isort: skip
import jittor as jt
import numpy as np
from jittor import nn


class Segmenter(nn.Module):
    """Two classes a pixel from the stages of stride 8, 16 and 32, at a quarter of the picture's size."""

    def __init__(self):
        self.backbone = jvan.create_model("van_b0", features_only=True, out_indices=(1, 2, 3), drop_path_rate=0.1)
        self.lateral = nn.ModuleList([nn.Conv2d(stage["num_chs"], 16, 1) for stage in self.backbone.feature_info])
        self.classify = nn.Conv2d(16, 2, 1)

    def execute(self, x):
        size = (x.shape[2] // 4, x.shape[3] // 4)
        maps = [layer(stage) for layer, stage in zip(self.lateral, self.backbone(x))]
        return self.classify(sum(nn.interpolate(m, size, mode="bilinear") for m in maps))


jt.set_global_seed(0)
rng = np.random.RandomState(0)
pictures = jt.array(rng.standard_normal((2, 3, 64, 64)).astype(np.float32))
labels = (pictures.mean(1)[:, ::4, ::4] > 0).int32()

model = Segmenter()
model.backbone.freeze(stages=1)  # survives model.train(), which the outer module calls without the backbone knowing
optimizer = jt.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)
for step in range(8):
    loss = nn.cross_entropy_loss(model(pictures), labels)
    optimizer.step(loss)
    print(f"step {step}: loss {loss.item():.3f}")
