"""How results are shown: pages of the report; reads files only."""
