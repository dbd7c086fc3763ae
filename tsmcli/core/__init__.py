"""The network and the samplers: torch and numpy only, no files, no command line."""
