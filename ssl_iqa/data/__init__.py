"""From files to batches: images, splits, views, datasets, samplers, streams, and the labeled sets."""
