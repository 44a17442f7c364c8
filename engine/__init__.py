"""The state engine of bcs-tui: runs headless, knows nothing of the screen."""
