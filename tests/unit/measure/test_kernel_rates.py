"""Bursts are not slowed by a power limit, sustained samples are; the best kernel of several wins and is named."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from firsttoken.measure import kernel_rates as module
from firsttoken.measure.kernel_rates import Kernel, best_of, burst_rates, sustained_rates


class PowerCapped:
    """A clock and a device on it: full speed for 5 ms of load after a pause of 10 ms or more, then 70 % of it."""

    def __init__(self) -> None:
        self.now = 0.0
        self.busy_since = 0.0

    def perf_counter(self) -> float:
        return self.now

    def sleep(self, pause_s: float) -> None:
        self.now += pause_s
        if pause_s >= 0.01:
            self.busy_since = self.now

    def kernel(self, call_s: float) -> Callable[[], object]:
        def call() -> None:
            self.now += call_s if self.now - self.busy_since < 0.005 else call_s / 0.7

        return call


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> PowerCapped:
    capped = PowerCapped()
    monkeypatch.setattr(module, "time", capped)
    monkeypatch.setattr(module, "PAUSE_S", {"cpu": 0.03})
    monkeypatch.setattr(module, "FINALISTS", {"cpu": 2})
    return capped


def test_a_burst_reaches_what_a_sustained_load_does_not(device: PowerCapped) -> None:
    kernel = Kernel("product", 1.0, device.kernel(0.0005))
    assert max(sustained_rates(kernel, "cpu")) == pytest.approx(1400)
    assert burst_rates(kernel, "cpu", 3, pause_s=0.03) == pytest.approx([2000] * 3)
    found = best_of([kernel], "cpu")
    assert found.kernel == "product, bursts"
    assert found.samples == pytest.approx([2000] * module.REPEATS)
    assert found.sustained == pytest.approx(1400)


def test_a_kernel_of_another_shape_beats_the_first(device: PowerCapped) -> None:
    names = {"square": 0.0005, "wide": 0.0004, "narrow": 0.0006}
    found = best_of((Kernel(name, 1.0, device.kernel(call_s)) for name, call_s in names.items()), "cpu")
    assert found.kernel == "wide, bursts"
    assert max(found.samples) == pytest.approx(2500)


def test_without_pauses_a_sustained_sample_may_be_the_best(
    device: PowerCapped, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "burst_rates", lambda kernel, device, repeats, pause_s: (1.0, 2.0 if pause_s else 3.0))
    found = best_of([Kernel("read", 1.0, device.kernel(0.001))], "cpu")
    assert (found.kernel, found.samples) == ("read, sustained", (1.0, 3.0))
