"""Each mistake in a config is one line of `make check`; `make run` and Snakemake call the same function."""

from __future__ import annotations

from pathlib import Path

import pytest

import check

CASES = [
    ("unknown_key: 1", "'unknown_key'"),
    ("approaches: [baseline, turbo]", "'turbo'"),
    ("workload: {prompt_lengths: [0]}", "found 0"),
    ("workload: {prompt_lengths: [-3]}", "found -3"),
    ("workload: {prompt_lengths: [many]}", "'many'"),
    ("workload: {prompt_lengths: [10, 10]}", "10 stands there twice"),
    ("workload: {prompt_lengths: [100000]}", "longer than the model's context"),
    ("workload: {repeats: 0}", "workload.repeats"),
    ("model: {source: local, path: no/such/folder}", "no/such/folder"),
    ("model: {source: huggingface, repo: a/b}", "model.revision"),
    ("model: {dtype: float16}\ndevice: cpu", "model.dtype"),
    ("study: 'a/b'", "'a/b'"),
    ("device: cuda", "no CUDA device"),
    ("on_unavailable: fail", "tensorrt_llm cannot run here"),
    ("environments: {vlm: {python: /bin/sh}}", "'vlm', in which no approach runs"),
    ("environments: {tensorrt_llm: {python: no/python}}", "'no/python', which is no program here"),
    ("environments: {tensorrt_llm: {}}", "environments.tensorrt_llm.python: missing"),
    ("claims: [none.yaml]", "none.yaml: No such file"),
    ("claims: [config/config.yaml]", "config/config.yaml: Object"),
    ("claims: [/dev/zero]", "/dev/zero: no plain file"),
    ("hardware: H100", "hardware: found 'H100'"),
    ("workload: {repeats: 5.0}", "workload.repeats: found 5.0"),
    ("workload: {repeats: 100000}", "workload.repeats: found 100000"),
    ("graphs: {pool_capacity: 100000000000000000000}", "at most 18 digits"),
    ("model: {source: local, path: ~no-such-user/x}", "model.path: ~no-such-user/x is no folder"),
    ("model: {shape: {hiden_size: 64}}", "model.shape.hiden_size: llama has no such field"),
    ("compare: [{a: embedded, b: embedded}]", "the same study"),
    ("threads: 1\nthreads: 2", "found key threads twice"),
]


@pytest.mark.parametrize(("config", "words"), CASES, ids=[case[0] for case in CASES])
def test_one_line(
    config: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    file = tmp_path / "bad.yaml"
    file.write_text(config if "study:" in config else f"study: bad\n{config}", encoding="utf-8")
    assert check.main([str(file)]) == 1
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.startswith("firsttoken: ") and shown.err.count("\n") == 1
    assert words in shown.err
