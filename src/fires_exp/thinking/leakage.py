"""Detection of thoughts that quote the reference response."""

from __future__ import annotations

import re
from difflib import SequenceMatcher

_WORD = re.compile(r"[a-z0-9']+")
MIN_RESPONSE_WORDS = 3  # a shorter response, such as "I see.", occurs in many thoughts by chance
MIN_BLOCK_WORDS = 2  # single words in common are no evidence


def leaked_words(text: str, response: str, history: str, *, max_words: int, max_share: float) -> str:
    """Words of the response that the text contains and the history does not; empty where there is no leak.

    A leak is more than `max_words` of them in a row (for a response of at most `max_words`: all of it), or blocks of at least two
    words, in order, that make up more than `max_share` of a response longer than `max_words`.

    >>> leaked_words("I should ask what happened then.", "And what happened then?", "", max_words=5, max_share=0.6)
    ''
    >>> leaked_words("I should ask: and what happened then?", "And what happened then?", "", max_words=5, max_share=0.6)
    'and what happened then'
    """
    response_words, text_words = _WORD.findall(response.lower()), _WORD.findall(text.lower())
    if len(response_words) < MIN_RESPONSE_WORDS:
        return ""
    history_text = f" {' '.join(_WORD.findall(history.lower()))} "
    blocks = SequenceMatcher(None, response_words, text_words, autojunk=False).get_matching_blocks()
    shared = [" ".join(response_words[block.a : block.a + block.size]) for block in blocks if block.size >= MIN_BLOCK_WORDS]
    shared = [words for words in shared if f" {words} " not in history_text]
    longest = max(shared, key=lambda words: len(words.split()), default="")
    if len(longest.split()) > min(max_words, len(response_words) - 1):
        return longest
    share = sum(len(words.split()) for words in shared) / len(response_words)
    return " … ".join(shared) if len(response_words) > max_words and share > max_share else ""
