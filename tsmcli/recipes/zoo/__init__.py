"""Published checkpoints: fetched, verified, compared, converted."""
