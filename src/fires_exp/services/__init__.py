"""Chat models behind OpenAI-compatible services: requests, retries, rate limit and budget, and a cache of paid responses."""
