"""What the tests on a CUDA device share. Without one, all of them are skipped with that reason."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fakes.engines import make_spec
from unit.tiny_models import DECODER_FAMILIES, FAMILIES, save_tiny_model

torch = pytest.importorskip("torch")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.gpu)
            if not torch.cuda.is_available():
                item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture(scope="session")
def model_dirs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Tiny models of every family, and `wide`: large enough that matrix products use the libraries' workspaces."""
    folder = tmp_path_factory.mktemp("models")
    dirs = {family: save_tiny_model(family, folder / family) for family in (*FAMILIES, *DECODER_FAMILIES)}
    dirs["wide"] = save_wide_model(folder / "wide")
    dirs["wide_gqa"] = save_wide_model(folder / "wide_gqa", kv_heads=2)
    return dirs


def save_wide_model(folder: Path, kv_heads: int = 8) -> Path:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=4096, hidden_size=1024, intermediate_size=2816, num_hidden_layers=2, num_attention_heads=8,
        num_key_value_heads=kv_heads, max_position_embeddings=1024, bos_token_id=None, eos_token_id=None,
        pad_token_id=None,
    )  # fmt: skip
    torch.manual_seed(11)
    LlamaForCausalLM(config).half().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def make_bench(model_dirs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    """The equality gate over one of the models, its float32 reference made once, on the device."""
    from fakes.equality_bench import EqualityBench

    return functools.cache(lambda family: EqualityBench(model_dirs[family], tmp_path_factory.mktemp(family), "cuda"))


@pytest.fixture
def make_engine(model_dirs: dict[str, Path]) -> Iterator[Callable[..., Any]]:
    """Engines on the device, closed after the test."""
    from firsttoken.engines import build_engine

    engines: list[Any] = []

    def make(family: str = "llama_gqa", forward: Any = "graph", operations: Any = "native", **plan: Any) -> Any:
        plan = {"device": "cuda", "dtype": "float16", **plan}
        engines.append(build_engine(make_spec(model_dirs[family], forward, operations, **plan)))
        return engines[-1]

    yield make
    for engine in engines:
        engine.close()
