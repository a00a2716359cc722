"""Chat models behind OpenAI-compatible services: what is asked, what comes back, and never paying for it twice."""
