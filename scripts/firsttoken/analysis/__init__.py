"""What it means: statistics, equivalence, claims, tables, figures. Reads files only."""
