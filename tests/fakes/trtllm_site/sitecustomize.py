"""On PYTHONPATH, puts the stand-in for TensorRT-LLM, its versions and its GPU into every process of a program."""

import sys
from pathlib import Path

FAKES = Path(__file__).parents[1]
sys.path[:0] = [str(FAKES), str(FAKES.parents[1] / "scripts")]

from firsttoken import hardware  # noqa: E402
from firsttoken.external.tensorrt_llm import settings as trtllm_settings  # noqa: E402
from firsttoken.results import Gpu  # noqa: E402

VERSIONS = {
    "python": "3.12.3",
    "tensorrt_llm": "1.2.1",
    "torch": "2.9.1+cu130",
    "transformers": "4.57.3",
    "numpy": "1.26.4",
}
GPU = Gpu(name="NVIDIA Test", uuid="GPU-1", memory_bytes=1 << 30, compute_capability="9.0")

trtllm_settings.installed_versions = lambda: dict(VERSIONS)
hardware.visible_gpus = lambda: [GPU]
hardware.driver_versions = lambda: ("580.0", "13.0")
