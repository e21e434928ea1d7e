"""Which models our own decoder computes."""

from __future__ import annotations

from typing import Any

import pytest

from unit.tiny_models import DECODER_FAMILIES, FAMILIES, HEADS

torch = pytest.importorskip("torch")


def problem(model_type: str, dtype: str = "float16", device: str = "cpu", **fields: Any) -> str:
    from transformers import AutoConfig

    from firsttoken.compiled.coverage import uncovered

    config = AutoConfig.for_model(model_type, **{**HEADS, "pad_token_id": 0, **fields})
    return uncovered(config, getattr(torch, dtype), torch.device(device))


@pytest.mark.parametrize("family", DECODER_FAMILIES)
def test_families_that_are_covered(family: str) -> None:
    model_type, fields = DECODER_FAMILIES[family]
    assert problem(model_type, **fields) == ""


@pytest.mark.parametrize("family", ["gemma", "gpt2"])
def test_other_families_are_not(family: str) -> None:
    from transformers import AutoConfig

    from firsttoken.compiled.coverage import uncovered

    model_type, fields = FAMILIES[family]
    config = AutoConfig.for_model(model_type, **fields)
    assert uncovered(config, torch.float16, torch.device("cpu")) == f"no decoder of ours for {model_type}"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"hidden_act": "gelu"}, "the gate's function is gelu"),
        ({"head_dim": 24}, "heads of 24"),
        ({"head_dim": 8}, "heads of 8"),
        ({"intermediate_size": 49}, "products over 64, 49, 64 columns"),
        ({"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}}, "rotary positions of"),
        ({"dtype": "float32", "device": "cuda"}, "float32"),
    ],
)  # fmt: skip
def test_what_our_kernels_do_not_compute_is_named(fields: dict[str, Any], reason: str) -> None:
    assert problem("llama", **fields).startswith(reason)


def test_angles_that_do_not_depend_on_the_length_are_covered() -> None:
    rope = {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}
    assert problem("llama", rope_parameters=rope) == ""
