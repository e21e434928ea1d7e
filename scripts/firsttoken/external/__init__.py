"""Engines that come in environments of their own."""
