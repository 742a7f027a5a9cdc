"""What a model is for: steps, labels, samples, metrics, golden samples."""
