"""The released set of a scale: networks, test maps, systematics, and what they must give."""
