"""What vLLM is told, the environment that holds it, and the end of its engine core with a killed client."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

from fakes.plans import gpu_plan
from firsttoken.external.vllm import settings as vllm_settings
from firsttoken.external.vllm.logprobs import full_row

ROOT = Path(__file__).resolve().parents[3]
HARNESS = {"numpy", "pyarrow", "msgspec", "psutil", "nvidia-ml-py", "safetensors"}


def test_variables_of_the_process() -> None:
    whole = vllm_settings.process_environment(gpu_plan(dtype="float16"), "", False, flashinfer=True)
    assert whole == {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_WORKER_MULTIPROC_METHOD": "spawn", "VLLM_NO_USAGE_STATS": "1",
        "VLLM_LOGGING_LEVEL": "WARNING", "HF_HUB_OFFLINE": "1",
    }  # fmt: skip
    other = vllm_settings.process_environment(gpu_plan(dtype="float32"), "/c", True, flashinfer=False)
    assert other["VLLM_ENABLE_V1_MULTIPROCESSING"] == "1" and other["VLLM_CACHE_ROOT"] == "/c"
    assert other["VLLM_USE_FLASHINFER_SAMPLER"] == "0"
    assert (other["VLLM_FLOAT32_MATMUL_PRECISION"], other["TRITON_F32_DEFAULT"]) == ("highest", "ieee")


@pytest.mark.parametrize("context, captured, positions", [(16, 16, 384), (132, 132, 512), (628, 512, 896)])
def test_sizes_follow_the_plan(context: int, captured: int, positions: int) -> None:
    plan = gpu_plan(max_context=context, dtype="float16")
    arguments = vllm_settings.engine_arguments(Path("model"), plan)
    assert (arguments["max_model_len"], arguments["max_cudagraph_capture_size"]) == (context, captured)
    # Llama-2-7B: half a megabyte a position.
    assert vllm_settings.kv_cache_bytes(32, 32, 128, plan) == positions * (1 << 19)


def test_a_row_keeps_values_that_are_not_finite() -> None:
    """An overflow is for the equality check to report; a token that is missing is an error here."""
    position = SimpleNamespace(token_ids=[2, 0, 1, 2], logprobs=[-0.5, float("nan"), -3.0, -0.5])
    row = full_row(position, 3)
    assert row.dtype == np.float32 and np.isnan(row[0]) and row[1:].tolist() == [-3.0, -0.5]
    with pytest.raises(RuntimeError, match="no log-probability for 1 of 4 tokens"):
        full_row(position, 4)


CLIENT = """
import multiprocessing, time
from firsttoken.external.vllm.core_process import end_with_client

def core():
    end_with_client()
    print(multiprocessing.current_process().pid, flush=True)
    time.sleep(600)

if __name__ == "__main__":
    multiprocessing.get_context("spawn").Process(target=core).start()
    time.sleep(600)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
def test_a_killed_client_takes_its_engine_core_along(tmp_path: Path) -> None:
    script = tmp_path / "client.py"
    script.write_text(CLIENT)
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "scripts")}
    client = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env=environment)
    assert client.stdout is not None
    core = int(client.stdout.readline())
    watched = os.pidfd_open(core)
    try:
        client.kill()
        assert select.select([watched], [], [], 30)[0], "it has ended"
    finally:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(watched, signal.SIGKILL)
        os.close(watched)
        client.wait()
        client.stdout.close()


def pins(lines: list[str]) -> dict[str, str]:
    return dict(line.split("==") for line in lines if "==" in line)


def test_the_environments_files_agree() -> None:
    lock = pins((ROOT / "envs" / "vllm.lock").read_text().split())
    wanted = (ROOT / "envs" / "vllm.in").read_text().split()
    assert lock["vllm"] == vllm_settings.VERSION
    names = {re.split(r"[<>=]", line)[0] for line in wanted}
    assert names <= set(lock) and names >= HARNESS
    assert {name: lock[name] for name in pins(wanted)} == pins(wanted)
    conda = yaml.safe_load((ROOT / "envs" / "vllm.yaml").read_text())
    pip = next(part["pip"] for part in conda["dependencies"] if isinstance(part, dict))
    assert pins(pip) == {name: lock[name] for name in names}


def test_the_lock_is_exact() -> None:
    for line in re.findall(r"^\w.*", (ROOT / "envs" / "vllm.lock").read_text(), re.MULTILINE):
        assert re.match(r"[a-z0-9._-]+==[0-9a-z.]+ ", line), f"{line}: no exact version, or a local suffix"
