"""What everybody who meets a trained model must read first."""

from __future__ import annotations

NOTICE = (
    "This is a research model. It is no counselor and no substitute for care: it can be wrong, and it does not notice danger. "
    "If you are in distress, talk to somebody you trust or to a professional; if you or somebody else may be in danger, call "
    "your local emergency number or a crisis line of your country now."
)
