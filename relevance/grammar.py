"""Constrained decoding: whatever the model, what it writes after its grade is an explanation that holds.

The template and the verdict are forced, and so are the words of a short query that name something. The model chooses
the criterion grades, which other words of the query it wants, which spans of the document are evidence and which of the
terms that are really missing it names. A quote has a word that says something: one of the query's, where the document
has any, or a number if the query has one. Every path through the grammar parses and passes
`relevance.explanation.check`.

    grammar = AnswerGrammar(tokenizer, scale)                                      # once per model
    pair = grammar.for_pair(query, document, document_ids, grade)                  # document_ids as in the prompt
    run, state = pair.forced_run(pair.start())                                     # no choice: feed these together
    state = pair.advance(state, best(logits[pair.allowed(state)]))                 # a choice; until is_done(state)

A state is the set of places where the decoding may be: the tokens so far may be a quote begun at any of several
positions. Allowed tokens come from the places, never from the vocabulary. No state changes: keep one, go back to it,
share it. `encode` writes a given explanation as the tokens of such a path, which is what a model is trained on.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from relevance.errors import TokenizerError
from relevance.explanation import (
    BETWEEN,
    CRITERIA,
    END,
    MAX_MISSING,
    MAX_QUOTE_WORDS,
    MAX_WANTS_WORDS,
    NOTHING,
    NUM_CRITERION_GRADES,
    QUOTE_END,
    QUOTE_START,
    Explanation,
    verdict_name,
)
from relevance.grades import GradeScale
from relevance.grammar_parts import Literal, Part, Pick, Place, Quotes
from relevance.prompt import End
from relevance.spans import Anchors, QuotableSpans, TokenSurfaces
from relevance.terms import Words, is_content, keys, terms, words
from relevance.tokenization import TextTokenizer

MAX_TERM_TOKENS = 16
"""Terms of more tokens are strings of no meaning to copy (addresses, keys)."""

MAX_REQUIRED_TERMS = 10
"""A query with no more of them wants all its terms that name something; of a longer one they are chosen."""

State = tuple[tuple[int, Place], ...]
"""Places, each in the part of that index; the index behind the last part means done."""


@dataclass(frozen=True, slots=True)
class _Choice:
    """A literal that ends in one token of several."""

    lead: tuple[int, ...]
    tokens: tuple[tuple[int, ...], ...]


def find_anchors(query: str) -> Anchors:
    """What a quote has something of: the query's words that name something."""
    named = frozenset(key for term in terms(query) for key in keys(term) if is_content(key))
    return Anchors(named, any(key.isdigit() for key in named))


class AnswerGrammar:
    """The template in the tokens of one vocabulary."""

    def __init__(self, tokenizer: TextTokenizer, scale: GradeScale) -> None:
        """Spell the template.

        Raises:
            TokenizerError: the vocabulary has no token for a part of it, or criterion grades are not one token each.
        """
        self.tokenizer, self.scale = tokenizer, scale
        self.surfaces = TokenSurfaces(tokenizer)
        self.wants = self._spell(" wants:")
        self.criteria = tuple(self._spell_choice(f" {END} {name}: ") for name in CRITERIA)
        self.evidence, self.missing = self._spell(f" {END} evidence:"), self._spell(f" {END} missing:")
        self.quote_start, self.quote_end = self._spell(f" {QUOTE_START}"), self._spell(f" {QUOTE_END}")
        self.between, self.nothing = self._spell(f" {BETWEEN}"), self._spell(f" {NOTHING}")
        self.verdicts = tuple(
            self._spell(f" {END} verdict: {verdict_name(scale, grade)} {END}") for grade in range(scale.num_grades)
        )

    def _spell(self, text: str) -> tuple[int, ...]:
        ids = tuple(self.tokenizer.encode_literal(text))
        if any(self.tokenizer.is_unknown(token) for token in ids):
            raise TokenizerError(f"this vocabulary cannot spell {text.strip()!r} of the explanation's template")
        return ids

    def _spell_choice(self, lead: str) -> _Choice:
        spelt = [self._spell(f"{lead}{grade}") for grade in range(NUM_CRITERION_GRADES)]
        before = {ids[:-1] for ids in spelt}
        if len(before) != 1 or len({ids[-1] for ids in spelt}) != NUM_CRITERION_GRADES:
            raise TokenizerError(f"criterion grades are not one token each behind {lead.strip()!r}")
        return _Choice(before.pop(), tuple(ids[-1:] for ids in spelt))

    def for_pair(
        self, query: str, document: str, document_ids: Sequence[int], grade: int, kept: End | None = None
    ) -> "PairGrammar":
        """The grammar of one pair.

        Args:
            query: as the caller wrote it.
            document: as the caller wrote it, whole: what is missing is missing from all of it.
            document_ids: the document's tokens in the prompt (`PromptEncoder.document_ids`); quotes are copied from
                them. Special tokens around them are left aside.
            grade: what the first token said, an index into the scale.
            kept: which end stayed of a document that was cut; None for a whole one.
        """
        own = self.surfaces.strip_special(document_ids)
        spans = QuotableSpans(own, self.surfaces, MAX_QUOTE_WORDS, kept, find_anchors(query))
        return PairGrammar(self, query, Words.of(document), spans, grade)

    def spell_terms(self, found: Sequence[str]) -> list[tuple[str, tuple[int, ...]]]:
        """The terms this vocabulary can spell, with their tokens."""
        # One by one: a batch would pay for a thread pool that costs more than a few words.
        encoded = [(term, tuple(self.tokenizer.encode_user_texts([f" {term}"])[0])) for term in found]
        return [
            (term, ids)
            for term, ids in encoded
            if 0 < len(ids) <= MAX_TERM_TOKENS and all(self.surfaces[token].can_be_copied for token in ids)
        ]


class PairGrammar:
    """The paths of one pair."""

    def __init__(self, grammar: AnswerGrammar, query: str, document: Words, spans: QuotableSpans, grade: int) -> None:
        self._grammar, self._spans = grammar, spans
        wanted = grammar.spell_terms(terms(query))
        self._wants = [(term, ids) for term, ids in wanted if len(words(term)) <= MAX_WANTS_WORDS]
        lacking = [found for found in wanted if is_content(found[0]) and document.lacks(found[0])]
        first = {tuple(keys(found[0])): found for found in reversed(lacking)}
        self._missing = [found for found in lacking if first[tuple(keys(found[0]))] is found]
        self._grade = grade
        self._required = self._find_required()
        parts: list[Part] = [Literal(grammar.wants)]
        weights = [len(words(term)) for term, _ in self._wants]
        nothing = () if self._wants else grammar.nothing
        options = [ids for _, ids in self._wants]
        parts.append(Pick(options, weights, MAX_WANTS_WORDS, nothing=nothing, required=self._required))
        for choice in grammar.criteria:
            parts += [Literal(choice.lead), Pick(choice.tokens, [1] * len(choice.tokens), 1)]
        parts += [Literal(grammar.evidence), Quotes(spans, grammar.quote_start, grammar.quote_end, grammar.nothing)]
        spelt = [ids for _, ids in self._missing]
        parts.append(Literal(grammar.missing))
        parts.append(Pick(spelt, [1] * len(spelt), MAX_MISSING, between=grammar.between, nothing=grammar.nothing))
        parts.append(Literal(grammar.verdicts[grade]))
        self._parts = parts
        self._moves_of: tuple[State, dict[int, State]] | None = None

    def _find_required(self) -> list[int]:
        """The words of a short query that name something, each where it comes first; none of a long one's."""
        first: dict[tuple[str, ...], int] = {}
        for index, (term, _) in enumerate(self._wants):
            if is_content(term):
                first.setdefault(tuple(keys(term)), index)
        fits = sum(len(words(term)) for term, _ in self._wants) <= MAX_WANTS_WORDS
        return sorted(first.values()) if fits and len(first) <= MAX_REQUIRED_TERMS else []

    def start(self) -> State:
        """The state behind the grade token."""
        return ((0, self._parts[0].start),)

    def is_done(self, state: State) -> bool:
        """Whether the explanation is complete; nothing is allowed then."""
        return state[-1][0] == len(self._parts)

    def allowed(self, state: State) -> tuple[int, ...]:
        """The token ids that may come next, at least one unless done; in no particular order."""
        return tuple(self._moves(state))

    def advance(self, state: State, token: int) -> State:
        """The state behind `token`; ValueError if it is not allowed."""
        try:
            return self._moves(state)[token]
        except KeyError:
            raise ValueError(f"token {token} is not allowed here") from None

    def forced_run(self, state: State) -> tuple[list[int], State]:
        """The tokens that must come next because each is the only one allowed, and the state behind them."""
        run: list[int] = []
        while len(moves := self._moves(state)) == 1:
            token, state = next(iter(moves.items()))
            run.append(token)
        return run, state

    def encode(self, explanation: Explanation) -> list[int]:
        """`explanation` as tokens of a path; what the grammar has no path for is left out or cut.

        Words it wants that are not the query's, quotes that are not in the document's tokens (cut away, say) and
        terms that are not missing go; a quote too long ends earlier; the verdict is the grade of this grammar.
        """
        g = self._grammar
        ids = [*g.wants, *self._encode_wants(explanation.wants)]
        for choice, grade in zip(g.criteria, explanation.criteria, strict=True):
            ids += [*choice.lead, *choice.tokens[grade]]
        ids += g.evidence
        apart = self._find_quotes(explanation.evidence)
        for start, end in apart:
            ids += [*g.quote_start, *self._spans.ids[start:end], *g.quote_end]
        ids += [*(() if apart else g.nothing), *g.missing]
        named = {tuple(keys(term)) for term in explanation.missing}
        spelt = [spelling for term, spelling in self._missing if tuple(keys(term)) in named]
        for i, spelling in enumerate(spelt):
            ids += [*(g.between if i else ()), *spelling]
        return [*ids, *(() if spelt else g.nothing), *g.verdicts[self._grade]]

    def _find_quotes(self, quotes: Sequence[str]) -> list[tuple[int, int]]:
        """Their spans in the document's order; of two that share tokens the later one goes."""
        found: list[tuple[int, int]] = []
        for quote in quotes:
            after = found[-1][1] if found else 0
            span = self._spans.find(quote, after) or self._spans.find(quote)
            found += [span] if span is not None else []
        found.sort()
        return [span for i, span in enumerate(found) if i == 0 or span[0] >= max(e for _, e in found[:i])]

    def _encode_wants(self, wants: str) -> list[int]:
        picked: list[int] = []
        for term in terms(wants):
            later = range(picked[-1] + 1 if picked else 0, len(self._wants))
            picked += [i for i in later if keys(self._wants[i][0]) == keys(term)][:1]
        picked = sorted({*picked, *self._required})
        picked = picked or [i for i, (term, _) in enumerate(self._wants) if is_content(term)] or [0]
        ids: list[int] = []
        weight = 0
        for term, spelling in (self._wants[i] for i in picked if self._wants):
            weight += len(words(term))
            ids += spelling if weight <= MAX_WANTS_WORDS else ()
        return ids or list(self._grammar.nothing)

    def _moves(self, state: State) -> dict[int, State]:
        if self._moves_of is not None and self._moves_of[0] is state:
            return self._moves_of[1]
        found: dict[int, dict[tuple[int, Place], None]] = {}
        for index, place in state:
            if index == len(self._parts):
                return {}
            for token, after in self._parts[index].moves(place):
                places = found.setdefault(token, {})
                places[index, after] = None
                if self._parts[index].is_end(after):
                    is_last = index + 1 == len(self._parts)
                    places[index + 1, () if is_last else self._parts[index + 1].start] = None
        moves = {token: tuple(places) for token, places in found.items()}
        self._moves_of = (state, moves)
        return moves
