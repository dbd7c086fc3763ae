"""From a list file to a batch."""
