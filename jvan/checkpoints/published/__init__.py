"""The catalogue of published weights, their download and its verification."""
