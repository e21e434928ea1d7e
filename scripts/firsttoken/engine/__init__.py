"""Steps that run again and again: capture and replay, the rolling pool, and what differs between a CPU and a device."""
