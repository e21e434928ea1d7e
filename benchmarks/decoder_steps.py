"""Device time of our decoder's forward passes, captured and replayed: a decode step by context, a prefill by length.

    python benchmarks/decoder_steps.py [--contexts 255,1000,4000] [--lengths 10,50,250,500] [--layers 32]

Random weights in the shape of Llama-2 7B, float16; no model folder, no second process, no choice of a token. Prints
CSV: step, tokens, median ms. For a comparison of two versions of the code, run them in turns on one device.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

from firsttoken.compiled.model import Decoder, Layer
from firsttoken.compiled.tiles import Attention, Linear
from firsttoken.compiled.tuning import graph_seconds

REPLAYS = 20
HIDDEN, INTERMEDIATE, HEADS, HEAD_DIM, VOCABULARY, EPSILON = 4096, 11008, 32, 128, 32000, 1e-5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--contexts", type=_numbers, default=[255, 1000, 4000], help="positions in the KV cache")
    parser.add_argument("--lengths", type=_numbers, default=[10, 50, 250, 500], help="of prompts")
    parser.add_argument("--layers", type=int, default=32)
    options = parser.parse_args()
    torch.manual_seed(1)
    torch.set_default_device("cuda")
    torch.backends.cuda.preferred_blas_library("cublaslt")  # as `compiled.steps` does
    positions = max(*options.contexts, *options.lengths) // 64 * 64 + 64
    with torch.inference_mode():
        decoder = random_decoder(options.layers, positions)
        cache, logits = decoder.new_cache(positions), torch.empty(1, VOCABULARY, dtype=torch.float16)
        token, position = torch.zeros(1, 1, dtype=torch.int64), torch.zeros(1, dtype=torch.int64)
        for keys, values in cache:
            keys.normal_()
            values.normal_()
        decoder.tune("", partial(decoder.decode, token, position, cache, 64, logits))
        print("step,tokens,ms")
        for context in options.contexts:
            position.fill_(context)
            bucket = context // 64 * 64 + 64
            seconds = graph_seconds(partial(decoder.decode, token, position, cache, bucket, logits), REPLAYS)
            print(f"decode,{context},{1e3 * seconds:.4f}", flush=True)
        for length in options.lengths:
            ids, last = torch.randint(VOCABULARY, (length,)), torch.tensor([length - 1])
            seconds = graph_seconds(partial(decoder.prefill, ids, last, cache, logits), REPLAYS)
            print(f"prefill,{length},{1e3 * seconds:.4f}", flush=True)


def random_decoder(layers: int, positions: int) -> Decoder:
    """A decoder in the shape of Llama-2 7B, of that many layers."""

    def weight(rows: int, columns: int) -> torch.Tensor:
        return torch.randn(rows, columns, dtype=torch.float16).mul_(columns**-0.5)

    angle = torch.rand(positions, HEAD_DIM // 2).repeat(1, 2) * 6
    attention = Attention(HEADS, HEADS, HEAD_DIM**-0.5, angle.cos().half(), angle.sin().half())
    made = [
        Layer(
            qkv=Linear(weight(3 * HIDDEN, HIDDEN), epsilon=EPSILON),
            attention=attention,
            o=Linear(weight(HIDDEN, HIDDEN), residual=True),
            gate_up=Linear(weight(2 * INTERMEDIATE, HIDDEN), epsilon=EPSILON, gated=True),
            down=Linear(weight(HIDDEN, INTERMEDIATE), residual=True),
        )
        for _ in range(layers)
    ]
    head = Linear(weight(VOCABULARY, HIDDEN), None, EPSILON, torch.ones(HIDDEN))
    return Decoder(weight(VOCABULARY, HIDDEN), made, head, HEAD_DIM)


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


if __name__ == "__main__":
    main()
