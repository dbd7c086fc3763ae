"""Devices, optimiser, training loop, checkpoints and scores."""
