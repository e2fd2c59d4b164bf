"""State, objectives, optimizers, the step and the loop: no files, no config."""
