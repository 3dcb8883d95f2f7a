"""Classify a picture: weights in, labelled probabilities out."""

from pathlib import Path

import jvan

predictor = jvan.Predictor()  # the bundled network, untrained; Predictor(weights="van_b0.in1k") downloads trained ones
for rank, guess in enumerate(predictor(Path(__file__).with_name("cat.jpg"), topk=3)[0], start=1):
    print(f"{rank}. {guess.label} ({guess.wnid}): {guess.probability:.1%}")
print("note:", predictor.metadata.note)
