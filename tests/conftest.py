"""What all tests need."""

from __future__ import annotations

import signal

# A shell starts its background jobs with SIGINT ignored, and so would every process that a test interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
