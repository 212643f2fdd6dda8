"""Checkpoints in torch: loading, warm start, forward pass. Shared by training and export; the server never loads it."""
