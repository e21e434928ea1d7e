"""firsttoken: which way of running a language model gives the first token, and every next one, soonest.

    inputs/      WHAT GOES IN: model weights, tokenizer, prompts
    approaches/  WHAT is compared: one file an approach, behind one contract
    runtime/     WITH WHAT: static KV cache, step graphs, rolling pool, dynamic operations, generator process
    measure/     HOW: harness, clocks, memory, telemetry, environment, ceilings
    analysis/    WHAT IT MEANS: statistics, equivalence, claims, tables, figures; reads files only
    study/       THE STUDY AS A WHOLE: config, source tracking, provenance

Shared by all: `records` (what crosses a process or file boundary, typed) and `files` (atomic, validated writing).
The package never imports snakemake.
"""
