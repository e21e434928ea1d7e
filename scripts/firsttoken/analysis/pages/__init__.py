"""The pages of a study: one an approach, an overview, sortable tables, and the report's landing text.

Made from the code and the data of this very run, so that they cannot go stale: functions are excerpted from the source
and figures are read from the tables when a page is rendered.
"""
