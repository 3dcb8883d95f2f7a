"""Classify a picture: weights in, labelled probabilities out."""

from pathlib import Path

import jvan

# The bundled network; jvan.Predictor(weights="van_b0.in1k") downloads one that knows ImageNet's thousand classes.
predictor = jvan.Predictor()
for rank, guess in enumerate(predictor(Path(__file__).with_name("cat.jpg"), topk=3)[0], start=1):
    print(f"{rank}. {guess.label}: {guess.probability:.1%}")
print("note:", predictor.metadata.note)
