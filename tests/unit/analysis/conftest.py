"""What tests of claims share."""

from __future__ import annotations

import pytest

from fakes.claim_studies import AS_CLAIMED, LENGTHS
from fixtures_samples import Study, analyse, make_study


@pytest.fixture(scope="package")
def as_claimed(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return analyse(make_study(tmp_path_factory.mktemp("claimed"), AS_CLAIMED, lengths=LENGTHS, seed=2))
