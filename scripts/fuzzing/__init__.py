"""Broken and hostile inputs, and what the package makes of them: `make fuzz`."""
