"""Keras networks from maps to densities: layers, presets, heads, files."""
