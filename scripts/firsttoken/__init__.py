"""firsttoken: measures which way of running a language model has the lowest latency to the first and every next token.

approaches/  WHAT is compared: the interface (`base`), one file an approach
engine/      a request: the loop, capture and replay, the rolling pool
hf/          Hugging Face's forward as steps, with native and JIT-compiled dynamic operations
compiled/    our own decoder
server/      two processes: client and generator
external/    engines in environments of their own
measure/     HOW it is measured: harness, telemetry, ceilings, experiments
analysis/    WHAT IT MEANS: statistics, equality, verdicts, tables, figures; reads files only
report/      how it is shown
inputs/  study/   model, tokenizer, prompts  |  config, provenance, sources
"""
