"""How it is measured: harness, clocks, memory, telemetry, environment, ceilings."""
