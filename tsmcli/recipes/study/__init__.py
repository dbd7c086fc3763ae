"""What there is to know about a run."""
