"""The warning that precedes every use of a trained model: in the chat, on its page and in the model card."""

from __future__ import annotations

NOTICE = (
    "This is a research model. It is no counselor and no substitute for care: it can be wrong, and it does not recognize danger. "
    "If you are in distress, talk to someone you trust or to a professional; if you or someone else may be in danger, call "
    "your local emergency number or a crisis line in your country now."
)
