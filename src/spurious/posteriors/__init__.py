"""Posteriors of every origin: trained networks, P(k), users' own models."""
