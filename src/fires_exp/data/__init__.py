"""From corpora to records: conversations, their instances, and the frames of their clips."""
