"""The software environments of a study: their interpreters, what these have, and which approaches can run in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from firsttoken.approaches.base import approach_class
from firsttoken.child_job import find_python
from firsttoken.measure.probe import Probe, probe
from firsttoken.plan import Device
from firsttoken.results import Availability


@dataclass(frozen=True)
class Environments:
    """Of the approaches `names`. `configured`: interpreters that the config gives, by environment. `deployment`: how
    Snakemake deploys environments, e.g. ["conda"]; empty: it does not."""

    names: tuple[str, ...]
    device: Device
    dtype: str
    deployment: tuple[str, ...]
    configured: Mapping[str, str]

    def python(self, environment: str) -> str:
        """The interpreter of an environment; "" for the one that runs the rule, which Snakemake may deploy."""
        configured = self.configured.get(environment, "")
        return configured if self.deployment else find_python(environment, configured)

    def availability(self, name: str) -> Availability:
        """Whether an approach can run here. Snakemake may deploy the packages that are not here."""
        approach = approach_class(name)
        if self.deployment and not self.python(approach.environment):
            return approach.deployed(self.deployment, self.device, self.dtype)
        return self._probe(approach.environment).approaches[name]

    def software(self) -> dict[str, dict[str, Any]]:
        """By environment: the versions that measurements depend on, and the interpreter where the config names one."""
        found = {name: self._probe(name) for name in sorted({approach_class(name).environment for name in self.names})}
        return {
            name: {"python": each.python, "packages": each.packages, "interpreter": self.configured.get(name, "")}
            for name, each in found.items()
        }

    def _probe(self, environment: str) -> Probe:
        """Once for all approaches of an environment."""
        together = tuple(name for name in self.names if approach_class(name).environment == environment)
        return probe(self.python(environment), self.device, self.dtype, together)
