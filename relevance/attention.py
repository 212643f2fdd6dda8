"""Who may look at whom inside a prompt.

A prompt is a prefix segment (up to and with the query) and a document segment: the document and, last, the suffix the
grade is read at.

causal: every token sees itself and those before it.
segment: tokens of the prefix see the whole prefix, tokens of a document segment see the prefix and their whole segment,
both ways. It keeps what an encoder knows.
late: `segment` in the upper layers. In the lower ones, whose number the graph knows, prefix and document see themselves
only, both ways; the suffix sees all. The document is numbered from position 0 again, so that query and document are
encoded as a bi-encoder would, and then compared.

In all three a prefix does not depend on its documents, so its KV can be shared, and what is generated after the prompt
is causal.
"""

from typing import Literal

Attention = Literal["causal", "segment", "late"]
