"""Pictures in, labelled probabilities out."""
