"""Whether a thought gives away the response that it is to lead to."""

from __future__ import annotations

import re
from difflib import SequenceMatcher

_WORD = re.compile(r"[a-z0-9']+")
LEAST_WORDS = 3  # a shorter response, "I see.", stands in many a thought by chance
LEAST_BLOCK = 2  # single words in common tell nothing


def leaked_words(text: str, response: str, history: str, *, max_words: int, max_share: float) -> str:
    """Words of the response that stand in the text although the history does not have them; empty where there is no leak.

    A leak is more than `max_words` of them in a row (all of a response that has no more), or pieces of at least two words, in
    order, that make up more than `max_share` of a response longer than `max_words`.

    >>> leaked_words("I should ask what happened then.", "And what happened then?", "", max_words=5, max_share=0.6)
    ''
    >>> leaked_words("I should ask: and what happened then?", "And what happened then?", "", max_words=5, max_share=0.6)
    'and what happened then'
    """
    wanted, said = _WORD.findall(response.lower()), _WORD.findall(text.lower())
    if len(wanted) < LEAST_WORDS:
        return ""
    heard = f" {' '.join(_WORD.findall(history.lower()))} "
    blocks = SequenceMatcher(None, wanted, said, autojunk=False).get_matching_blocks()
    shared = [" ".join(wanted[block.a : block.a + block.size]) for block in blocks if block.size >= LEAST_BLOCK]
    shared = [words for words in shared if f" {words} " not in heard]
    longest = max(shared, key=lambda words: len(words.split()), default="")
    if len(longest.split()) > min(max_words, len(wanted) - 1):
        return longest
    share = sum(len(words.split()) for words in shared) / len(wanted)
    return " … ".join(shared) if len(wanted) > max_words and share > max_share else ""
