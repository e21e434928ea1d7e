"""Sibling projections become one product: same numbers, one matrix product in the compiled code, no second copy."""

from __future__ import annotations

import re

import pytest

from unit.tiny_models import build_tiny_model, prompt_ids

torch = pytest.importorskip("torch")


def attention(bias: bool, kind: type | None = None):
    from torch import nn

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            linear = kind or nn.Linear
            self.q_proj = linear(64, 64, bias=bias)
            self.k_proj = linear(64, 32, bias=bias)
            self.v_proj = linear(64, 32, bias=bias)

        def forward(self, hidden):
            return self.q_proj(hidden).tanh(), self.k_proj(hidden).sin(), self.v_proj(hidden) + 1

    torch.manual_seed(0)
    return Attention().eval()


@pytest.mark.parametrize("bias", [False, True])
def test_same_numbers_for_every_input(bias: bool) -> None:
    from firsttoken.compiled.fused_projections import fuse_projections

    module = attention(bias)
    inputs = [torch.randn(1, length, 64) for length in (1, 7)]
    with torch.inference_mode():
        before = [module(hidden) for hidden in inputs]
        assert fuse_projections(module) == 1
        for hidden, expected in zip(inputs, before, strict=True):
            torch.testing.assert_close(module(hidden), expected)
        # The product of one input is never used for another that stands at the same place.
        hidden = inputs[0]
        module(hidden)
        hidden.mul_(2)
        assert not torch.equal(module(hidden)[0], before[0][0])


def test_weights_are_held_once() -> None:
    from firsttoken.compiled.fused_projections import fuse_projections

    model = build_tiny_model("llama_gqa")
    before = sum(p.numel() for p in model.parameters())
    assert fuse_projections(model) == 2 * model.config.num_hidden_layers
    assert sum(p.numel() for p in model.parameters()) == before
    assert not [name for name, _ in model.named_parameters() if "q_proj.weight" in name or "up_proj.weight" in name]


def test_model_gives_the_same_logits() -> None:
    from firsttoken.compiled.fused_projections import fuse_projections

    model = build_tiny_model("qwen3")
    ids = torch.tensor([prompt_ids(9)])
    with torch.inference_mode():
        before = model(ids).logits
        fuse_projections(model)
        torch.testing.assert_close(model(ids).logits, before, atol=1e-5, rtol=1e-5)


def test_other_linear_modules_are_left_alone() -> None:
    from torch import nn

    from firsttoken.compiled.fused_projections import fuse_projections

    class Adapted(nn.Linear):
        """A subclass may compute something else than its weight says."""

    assert fuse_projections(attention(False, Adapted)) == 0


@pytest.mark.slow
@pytest.mark.parametrize("length", [1, 7])
def test_compiled_code_has_one_matrix_product(length: int) -> None:
    from torch._inductor.utils import run_and_get_code

    from firsttoken.compiled.fused_projections import fuse_projections

    module = attention(bias=False)
    hidden = torch.randn(1, length, 64)
    with torch.inference_mode():
        products = []
        for _ in range(2):
            torch._dynamo.reset()
            _, code = run_and_get_code(torch.compile(module, fullgraph=True), hidden)
            products.append(len(re.findall(r"extern_kernels\.(?:add)?mm\(", "\n".join(code))))
            fuse_projections(module)
    assert products == [3, 1]


def test_at_most_one_group_has_a_second_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen failing: a list of all modules, which kept every projection that was replaced."""
    import gc
    import weakref

    from firsttoken.compiled.fused_projections import fuse_projections

    model = torch.nn.Sequential(*(attention(bias=False) for _ in range(3)))
    originals = [weakref.ref(layer.k_proj.weight) for layer in model]
    alive: list[int] = []

    def count_originals() -> None:
        gc.collect()
        alive.append(sum(original() is not None for original in originals))

    monkeypatch.setattr(torch.cuda, "empty_cache", count_originals)
    assert fuse_projections(model) == 3
    assert alive == [3, 2, 1] or alive == [2, 1, 0]
