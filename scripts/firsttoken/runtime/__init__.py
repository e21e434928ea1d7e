"""With what the approaches are made: model loading, static KV cache, step graphs, rolling pool, generator process."""
