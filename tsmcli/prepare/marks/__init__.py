"""Intervals that people marked in videos, as their tools store them: a file per tool, and one that writes."""
