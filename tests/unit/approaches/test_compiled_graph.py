"""What `compiled_graph` says of itself; its tokens and logits are checked in test_equivalence_families.py."""

from __future__ import annotations

from firsttoken.approaches.base import approach_class


def test_it_is_a_contender_in_two_processes() -> None:
    kind = approach_class("compiled_graph")
    assert (kind.processes, kind.graphs, kind.dynamic_operations) == (2, True, "captured")
    assert not kind.control


def test_it_is_emulated_without_a_gpu_and_says_so() -> None:
    kind = approach_class("compiled_graph")
    assert kind.availability("cpu").status == "emulated"
    assert "CUDA" in kind.availability("cpu").reason
    assert kind.availability("cuda").status == "measured"
