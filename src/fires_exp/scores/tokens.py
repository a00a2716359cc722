"""Tokens of the metrics: lower case, then NLTK's word tokens (the code that the paper cites does the same)."""

from __future__ import annotations

import re
from functools import lru_cache

from nltk.tokenize import NLTKWordTokenizer

TOKENS = "lower-case NLTK words"

_WORDS = NLTKWordTokenizer()
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


@lru_cache(maxsize=65_536)
def words(text: str) -> tuple[str, ...]:
    """`word_tokenize` of the lower-cased text. Sentences are split at white space after ``.!?`` rather than by the punkt model,
    which is not part of the package; the word tokenizer splits off a full stop only at a sentence's end."""
    sentences = _SENTENCE_END.split(text.lower().strip())
    return tuple(token for sentence in sentences for token in _WORDS.tokenize(sentence))
