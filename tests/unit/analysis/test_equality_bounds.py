"""The bounds by dtype and depth, as the calibration left them."""

from pathlib import Path

import pytest

from firsttoken.analysis.equality_bounds import HEADROOM, MEASURES, ULP, read_limits
from fixtures_samples import BOUNDS


def test_every_dtype_has_bounds_and_deeper_models_no_tighter_ones() -> None:
    for dtype in ULP:
        shallow, deep, deeper = (read_limits(BOUNDS, dtype, layers) for layers in (2, 32, 128))
        for name in MEASURES:
            assert 0 < shallow.absolute[name] <= deep.absolute[name] < deeper.absolute[name] < 1
            assert 0 < shallow.least[name] <= deep.least[name] < deeper.least[name]


def test_a_row_holds_up_to_its_depth_and_grows_with_the_root_beyond_the_last(tmp_path: Path) -> None:
    path = tmp_path / "bounds.csv"
    header = "dtype,layers,rms_ulp,kl_ulp,slope_ulp,least_rms_ulp,least_kl_ulp,least_slope_ulp\n"
    path.write_text(f"{header}float16,2,4,5,1,1,1,1\nfloat16,32,8,10,2,2,2,2\n", encoding="utf-8")
    ulp = ULP["float16"]
    assert read_limits(path, "float16", 1).absolute["rms"] == HEADROOM * 4 * ulp
    assert read_limits(path, "float16", 3).absolute["rms"] == HEADROOM * 8 * ulp
    assert read_limits(path, "float16", 128).absolute["kl"] == HEADROOM * 10 * 2 * ulp
    assert read_limits(path, "float16", 128).least["slope"] == 2 * 2 * ulp
    with pytest.raises(ValueError, match=r"bounds\.csv: no bounds for dtype 'float8'; known: float16"):
        read_limits(path, "float8", 2)
