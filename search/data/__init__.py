"""Labelled examples: one file a source, and the splits and batches made of them."""
