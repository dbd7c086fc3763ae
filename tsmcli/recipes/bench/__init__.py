"""How fast networks and readers are."""
