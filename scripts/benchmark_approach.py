"""In: model, prompts, reference tokens. Out: raw samples, run record, tokens and logits of one fresh process of one approach."""

import time

STARTED_NS = time.perf_counter_ns()  # first of all: the cold start counts the imports below

from pathlib import Path  # noqa: E402
