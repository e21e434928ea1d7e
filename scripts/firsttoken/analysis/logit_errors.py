"""How far teacher-forced log-probabilities are from the reference's, position by position."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class LogitErrors:
    """Four numbers a position, each `[positions]`; x are the reference's log-probabilities, y the approach's.

    `spread` is the standard deviation of x over the vocabulary, the scale that errors are measured on: in nats a
    rounding error grows with the logits. `rms_error` is the root mean square of y - x and `kl` the divergence of y
    from x, both in nats. `slope` is the least-squares slope of y on x: 1.5 where the logits are one and a half times
    too large.
    """

    spread: Floats
    rms_error: Floats
    kl: Floats
    slope: Floats

    @property
    def distances(self) -> dict[str, Floats]:
        """The three errors without unit, so that one bound holds for every model: the RMS error and sqrt(2 KL) as
        shares of the spread, and how far the slope is from 1.

        sqrt(2 KL) is, for small errors, their standard deviation under the reference's probabilities, so that it
        compares with the RMS error.
        """
        kl = np.sqrt(2 * self.kl) / self.spread
        return {"rms": self.rms_error / self.spread, "kl": kl, "slope": np.abs(self.slope - 1)}


def logit_errors(reference: NDArray[np.floating], found: NDArray[np.floating]) -> LogitErrors:
    """Compare logits of the same shape, `[positions, vocab]`. A position that is not finite has infinite errors."""
    x = log_softmax(reference.astype(np.float64), axis=-1)
    finite = np.isfinite(found).all(axis=-1)
    y = log_softmax(np.where(finite[:, None], found, 0).astype(np.float64), axis=-1)
    centred = x - x.mean(axis=-1, keepdims=True)
    spread = np.sqrt((centred**2).mean(axis=-1))
    slope = (centred * y).mean(axis=-1) / spread**2
    rms = np.sqrt(((y - x) ** 2).mean(axis=-1))
    kl = np.maximum((np.exp(x) * (x - y)).sum(axis=-1), 0)  # rounding of the sum can leave -1e-17
    rms, kl, slope = (np.where(finite, error, np.inf) for error in (rms, kl, slope))
    return LogitErrors(spread=spread, rms_error=rms, kl=kl, slope=slope)
