"""Maps and what is known of each: in memory, on disk, split, and from elsewhere."""
