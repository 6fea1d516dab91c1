"""Results for readers: sentences, tables, and the page."""
