"""What tests of claims and answers share."""

from __future__ import annotations

import pytest

from fakes.claim_studies import AS_CLAIMED, LENGTHS
from fixtures_samples import Known, Study, analyse, make_study


@pytest.fixture(scope="package")
def as_claimed(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return analyse(make_study(tmp_path_factory.mktemp("claimed"), AS_CLAIMED, lengths=LENGTHS, seed=2))


@pytest.fixture(scope="package")
def every_approach(tmp_path_factory: pytest.TempPathFactory) -> Study:
    known = {"baseline": Known(28.0), "jit_only": Known(20.0), "jit_cuda": Known(10.0)}
    return analyse(make_study(tmp_path_factory.mktemp("all"), known, requests=10))
