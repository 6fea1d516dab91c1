"""Probability densities over the parameters, with gradients to everything."""
