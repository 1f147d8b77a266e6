"""Text generation: sampling, the KV cache and incremental decoding."""
