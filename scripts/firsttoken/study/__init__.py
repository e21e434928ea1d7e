"""The study as a whole: its config, the sources behind each result, its provenance."""
