"""A study that bears the published claims out, and how claims are judged on any study."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import yaml

from firsttoken.analysis.claims import judge_claims
from firsttoken.analysis.schemas import read_table
from firsttoken.plan import ModelManifest
from firsttoken.results import Gpu
from fixtures_samples import Known, Study, Table

CLAIMS = Path(__file__).parents[2] / "config" / "claims"
HYBRID = CLAIMS / "arxiv-2604.23467.yaml"
LENGTHS = (10, 500)  # prompt lengths that these tests give HYBRID in the place of its ten
THEIR_GPU = Gpu(name="NVIDIA H100 NVL", uuid="GPU-1", memory_bytes=int(93.1 * 2**30), compute_capability="9.0")


def takes(ms: float, **more: Any) -> Known:
    """An approach with this TTFT at every prompt length, and next tokens in proportion."""
    return Known(ms, itl_ms=ms / 3, per_token_ms=0, **more)


# Measured as the study claims it (4.48x; 66 % lower than TensorRT-LLM), but for the P99 order.
AS_CLAIMED = {
    "baseline": takes(67.2, memory_gib=20),
    "cuda_graph": takes(120.0, processes=2, memory_gib=16),
    "jit_only": takes(76.0, memory_gib=15),
    "jit_cuda": takes(15.0, processes=2, memory_gib=13),
    "tensorrt_llm": takes(45.0, memory_gib=12),
}
LLAMA = ModelManifest(
    name="llama2-7b", source="huggingface", origin="", revision="", architecture="LlamaForCausalLM",
    weights="trained", parameters=6_738_415_616, weight_bytes=0, read_bytes_per_token=0, kv_bytes_per_token=0,
    flops_per_token=0, max_context=4096, vocab_size=32000, files=(),
)  # fmt: skip
ANY = {"gpu": "any", "model": "any", "parameters": [0, 1e12], "dtypes": ["float16"], "weights": "trained"}


def readings(
    study: Study,
    *published: Path,
    model: ModelManifest = LLAMA,
    dtype: str = "float16",
    gpu: Gpu | None = THEIR_GPU,
    **experiments: Path,
) -> Table:
    """claims.csv of a study: a row a reading, by the claim's id. `gpu` where the study ran on one."""
    out = study.table("claims")
    tables = study.tables()
    machine = msgspec.structs.replace(tables.environment, gpu=tables.environment.gpu and gpu)
    if not published:
        hybrid = study.root / "hybrid.yaml"
        hybrid.write_text(re.sub(r"prompt_lengths: .*", f"prompt_lengths: {[*LENGTHS]}", HYBRID.read_text()))
        published = (hybrid,)
    judge_claims(replace(tables, environment=machine, manifest=model), published, dtype, out, **experiments)
    return read_table(out, "claims").set_index("id")


def judged(study: Study, *published: Path, **options: object) -> dict[str, str]:
    """The verdict on each claim."""
    rows = readings(study, *published, **options)  # type: ignore[arg-type]
    return {str(name): str(verdict) for name, verdict in rows["verdict"].items()}


def invented(tmp_path: Path, *claims: dict[str, Any], **more: object) -> Path:
    """A file of claims. A claim without readings has one, of the keys that are a reading's."""
    path = tmp_path / "other.yaml"
    made = []
    for claim in claims:
        own = {key: claim[key] for key in ("id", "published", "claimed_for", "readings") if key in claim}
        reading = {"words": "as it stands"} | {key: value for key, value in claim.items() if key not in own}
        made.append({"source": "page 1", "text": "A claim.", "readings": [reading]} | own)
    content = {"name": "Another paper", "url": "https://example.org", "conditions": ANY, "claims": made} | more
    path.write_text(yaml.safe_dump(content))
    return path
