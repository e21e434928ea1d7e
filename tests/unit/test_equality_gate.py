"""The equality gate has teeth: it passes what is right and notices each planted bug, in every dtype."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fakes.trained_model import trained_model_dir

pytest.importorskip("torch")

from fakes.equality_bench import DTYPES, ROOT, EqualityBench
from fakes.equality_bugs import BUGS, EqualityBug
from firsttoken.inputs.synthetic import make_model

MODELS = [
    "synthetic",  # the embedded study's: random weights
    pytest.param("trained", marks=pytest.mark.slow),
]


@pytest.fixture(scope="module", params=MODELS)
def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> EqualityBench:
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "trained":
        return EqualityBench(trained_model_dir(), folder, new_tokens=4, prompts_per_length=1)
    model = folder / "model"
    model.mkdir()
    section = {"architecture": "llama", "shape": {}, "seed": 1, "dtype": "float32"}
    make_model(section, model, ROOT / "config" / "corpus.txt")
    return EqualityBench(model, folder)


@pytest.fixture(scope="module", params=DTYPES)
def engine(request: pytest.FixtureRequest, bench: EqualityBench) -> Iterator[object]:
    with bench.engine(request.param) as engine:
        yield engine


def test_a_correct_engine_passes(bench: EqualityBench, engine: object) -> None:
    row = bench.judged(engine)
    assert row["verdict"] in ("equal", "equal within tolerance"), row["reason"]
    assert row["logit_positions"] == len(bench.prompts.prompts) * bench.new_tokens
    assert 0 < row["positions"] <= row["logit_positions"], "tokens behind a near tie have another text"


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_planted_bug_is_noticed(bench: EqualityBench, engine: object, bug: EqualityBug) -> None:
    row = bench.judged(engine, bench.sized(engine, bug))
    assert row["verdict"] == "different"
    assert row["reason"]


def test_the_engine_is_right_again_without_its_bug(bench: EqualityBench, engine: object) -> None:
    """Else a bug would be noticed that an earlier test left behind."""
    bench.judged(engine, BUGS[-1])
    assert bench.judged(engine)["verdict"] != "different"
