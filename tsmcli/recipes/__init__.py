"""What each command does, one straight-line function a command.

A recipe that takes long is a generator: it yields events for whoever draws them, and its last event is its
result. It prints nothing.
"""
