"""Hugging Face's own forward as steps over fixed buffers: load, KV cache, masks, dynamic operations."""
