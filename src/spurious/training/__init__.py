"""Training networks, and tuning how they are trained."""
