"""Classify a picture: weights in, labelled probabilities out."""

from pathlib import Path

import jvan

predictor = (
    jvan.Predictor()
)  # the bundled network; Predictor(weights="van_b0.in1k") downloads one that knows 1000 classes
for rank, guess in enumerate(predictor(Path(__file__).with_name("cat.jpg"), topk=3)[0], start=1):
    print(f"{rank}. {guess.label}: {guess.probability:.1%}")
print("note:", predictor.metadata.note)
