"""State, losses, optimisers, the step and the loop: no files, no config."""
