"""Words of the metrics: lower case, then NLTK's word tokenizer, as in the code that the paper cites."""

from __future__ import annotations

import re
from functools import lru_cache

from nltk.tokenize import NLTKWordTokenizer

TOKENS = "lower-case NLTK words"

_WORDS = NLTKWordTokenizer()
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


@lru_cache(maxsize=65_536)
def words(text: str) -> tuple[str, ...]:
    """`word_tokenize` of the lower-cased text. Sentences are split at white space after ``.!?`` instead of by the punkt model,
    which is not installed with NLTK; the word tokenizer separates a full stop only at the end of a sentence."""
    sentences = _SENTENCE_END.split(text.lower().strip())
    return tuple(token for sentence in sentences for token in _WORDS.tokenize(sentence))
