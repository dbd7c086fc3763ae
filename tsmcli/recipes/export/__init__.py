"""Networks for use outside of Python."""
