"""From raw material to a prepared dataset: media, list files, class names, manifest."""
