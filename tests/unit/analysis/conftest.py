"""What tests of claims share."""

from __future__ import annotations

import pytest

from fakes.claim_studies import AS_CLAIMED
from fixtures_samples import Study, analyse, make_study


@pytest.fixture(scope="module")
def as_claimed(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return analyse(make_study(tmp_path_factory.mktemp("claimed"), AS_CLAIMED, seed=2))
