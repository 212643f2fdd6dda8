"""Who may look at whom inside a prompt.

causal: every token sees itself and those before it.
segment: tokens of the prefix segment see the whole prefix, tokens of a document segment see the prefix and their
whole segment, both ways; tokens generated after the prompt are causal. It keeps what an encoder knows, and a prefix
still does not depend on its documents, so its KV can be shared.
"""

from typing import Literal

Attention = Literal["causal", "segment"]
