"""The study's figures: one module a figure, one function in it, SVG with its data beside it as CSV."""
