"""Intervals of long videos: reading true ones and events, finding events in scores of windows, and scoring them."""
