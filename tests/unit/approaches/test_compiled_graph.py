"""What `compiled_graph` and its 8-bit form say of themselves; tokens and logits: test_equivalence_families.py and
compiled/test_decode.py."""

from __future__ import annotations

from firsttoken.approaches.base import approach_class


def test_it_is_a_contender_in_two_processes() -> None:
    kind = approach_class("compiled_graph")
    assert (kind.processes, kind.graphs, kind.dynamic_operations) == (2, True, "captured")
    assert not kind.control


def test_it_is_emulated_without_a_gpu_and_says_so() -> None:
    kind = approach_class("compiled_graph")
    assert kind.availability("cpu", "float16").status == "emulated"
    assert "CUDA" in kind.availability("cpu", "float16").reason
    assert kind.availability("cuda", "float16").status == "measured"


def test_8_bit_weights_are_another_function_and_need_a_gpu() -> None:
    kind = approach_class("compiled_graph_int8")
    assert kind.availability("cuda", "float16").status == "approximate"
    assert kind.availability("cpu", "float16").reason == "Compiled graph, 8-bit weights (ours) needs an NVIDIA GPU"
