"""Source lines as a reader counts them."""

from pathlib import Path

from firsttoken.analysis.latency_tables import source_lines


def test_blanks_comments_and_docstrings_do_not_count_and_a_file_counts_once(tmp_path: Path) -> None:
    one, two = tmp_path / "one.py", tmp_path / "two.py"
    one.write_text('"""Doc\n\nmore."""\n\n# why\nx = 1\n\n\ndef f():\n    """Doc."""\n    return x  # end\n')
    two.write_text("y = [\n    1,\n]\n")
    assert source_lines([one]) == 3
    assert source_lines([one, two, str(one)]) == 6
    assert source_lines([]) == 0
