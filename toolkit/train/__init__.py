"""Training graphs: update schemes, reverse-mode autodiff, losses and optimizers."""
