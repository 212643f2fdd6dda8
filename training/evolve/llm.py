"""Proposals of a language model, behind any endpoint that speaks the OpenAI protocol.

For each of the worst rules the model sees the rule, the predicates a condition may use, and pairs where the scorer and
gold disagree. It answers with JSON: a better statement, condition and bound, and new pairs. An answer counts if the
edited rule is a valid one and at least one of its pairs comes under it within its bound; other pairs are dropped, and
an answer that is no use is asked for again. What the endpoint says is data: nothing of it is run or looked up.
"""

import asyncio
import json
from pathlib import Path
from typing import Any

import openai
from openai.types.chat import ChatCompletionMessageParam
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from relevance.spec import describe
from training.endpoint import explain_failure, open_async_client
from training.evolve.config import Endpoint
from training.evolve.proposals import Case, Findings, Proposal, RuleFinding
from training.rules.book import Condition, Effect, Origin, Rule
from training.rules.predicates import PREDICATES

_MAX_RETRIES = 2
_SYSTEM = """You edit the rule book of a search relevance judge. Grades go from 0 (irrelevant) to {top} (perfect).
You get one rule and pairs on which a scorer and the gold judgement disagree. Gold is right. Answer with one JSON object
and nothing else:
{{"reason": why you change it, "statement": the rule in one plain sentence, "all_of": [predicates that must hold],
"none_of": [predicates that must not hold], "at_most": grade or null, "at_least": grade or null,
"cases": [{{"query": ..., "document": ..., "grade": ...}}, ...]}}
Exactly one of at_most and at_least is a number. Write {num_cases} new, varied and difficult cases that the rule
decides, in the style of the pairs shown. Predicates: {predicates}."""


class _CaseAnswer(BaseModel):
    model_config = ConfigDict(extra="ignore")

    query: str = Field(min_length=1)
    document: str = Field(min_length=1)
    grade: int = Field(ge=0)


class _Answer(BaseModel):
    model_config = ConfigDict(extra="ignore")

    reason: str = ""
    statement: str
    all_of: tuple[str, ...]
    none_of: tuple[str, ...] = ()
    at_most: int | None = None
    at_least: int | None = None
    cases: tuple[_CaseAnswer, ...] = Field(min_length=1)


class LlmProposer:
    """Asks an endpoint for one proposal per rule."""

    def __init__(self, endpoint: Endpoint, cases_per_proposal: int, made_in_round: int) -> None:
        self._endpoint, self._num_cases, self._round = endpoint, cases_per_proposal, made_in_round

    def propose(self, findings: Findings, count: int, seed: int) -> list[Proposal]:
        """One usable proposal for each of the worst rules, up to `count`.

        Raises:
            EndpointError: no key, unreachable, or it refuses the key or the model.
        """
        return asyncio.run(self._propose(findings, count, seed))

    async def _propose(self, findings: Findings, count: int, seed: int) -> list[Proposal]:
        endpoint = self._endpoint
        key_file = None if endpoint.key_file is None else Path(endpoint.key_file)
        proposals: list[Proposal] = []
        async with open_async_client(endpoint.base_url, key_file, endpoint.timeout_s, _MAX_RETRIES) as client:
            for finding in findings.ranked:
                if len(proposals) == count:
                    break
                if finding.num_wrong:
                    proposal = await self._ask(client, findings, finding, seed)
                    if proposal is not None and proposal.key not in findings.tried:
                        proposals.append(proposal)
        return proposals

    async def _ask(
        self, client: openai.AsyncOpenAI, findings: Findings, finding: RuleFinding, seed: int
    ) -> Proposal | None:
        messages: list[ChatCompletionMessageParam] = [
            {"role": "system", "content": self._instructions(findings)},
            {"role": "user", "content": json.dumps(self._shown(findings, finding), ensure_ascii=False)},
        ]
        for attempt in range(self._endpoint.max_tries):
            text = await self._complete(client, messages, seed + attempt)
            try:
                return self._read(text, finding.rule, findings.book.num_grades)
            except ValueError as error:
                told = f"That cannot be used: {error}. Answer again."
                messages = [*messages, {"role": "assistant", "content": text}, {"role": "user", "content": told}]
        return None

    def _instructions(self, findings: Findings) -> str:
        top, predicates = findings.book.num_grades - 1, ", ".join(PREDICATES)
        return _SYSTEM.format(top=top, num_cases=self._num_cases, predicates=predicates)

    def _shown(self, findings: Findings, finding: RuleFinding) -> dict[str, Any]:
        wrong = [row for row in finding.rows if findings.predicted[row] != findings.gold[row]]
        wrong.sort(key=lambda row: -abs(int(findings.predicted[row] - findings.gold[row])))
        pairs = [
            {
                "query": findings.pairs[row].query,
                "document": findings.pairs[row].document[:600],
                "gold": int(findings.gold[row]),
                "scorer": int(findings.predicted[row]),
            }
            for row in wrong[: self._endpoint.max_examples]
        ]
        rule = finding.rule.model_dump(exclude={"origin", "examples"}, exclude_none=True)
        return {"rule": rule, "gold_keeps_it": round(finding.gold_keeps, 2), "disagreements": pairs}

    async def _complete(self, client: openai.AsyncOpenAI, messages: list[ChatCompletionMessageParam], seed: int) -> str:
        try:
            answer = await client.chat.completions.create(
                model=self._endpoint.model, messages=messages, response_format={"type": "json_object"}, seed=seed
            )
        except openai.APIError as error:
            raise explain_failure(error, f"{self._endpoint.base_url}, model {self._endpoint.model}") from error
        return (answer.choices[0].message.content if answer.choices else None) or ""

    def _read(self, text: str, rule: Rule, num_grades: int) -> Proposal:
        """The proposal in an answer; ValueError says what is wrong with it."""
        try:
            answer = _Answer.model_validate_json(text)
            edited = Rule(
                id=rule.id,
                domain=rule.domain,
                statement=answer.statement,
                applies=Condition(all_of=answer.all_of, none_of=answer.none_of),
                effect=Effect(at_most=answer.at_most, at_least=answer.at_least),
                origin=Origin(made_by=self._endpoint.model, made_in_round=self._round, made_from=rule.id),
            )
        except ValidationError as error:
            raise ValueError(describe(error)) from error
        bound = edited.effect.at_most if edited.effect.at_most is not None else edited.effect.at_least
        if bound is not None and bound >= num_grades:
            raise ValueError(f"grades go from 0 to {num_grades - 1}")
        cases = tuple(
            Case(case.query, case.document, case.grade, "made")
            for case in answer.cases[: self._num_cases]
            if case.grade < num_grades
            and edited.effect.keeps(case.grade)
            and edited.applies_to(case.query, case.document)
        )
        if not cases:
            raise ValueError("none of the cases meets the rule's own condition and bound")
        return Proposal(rule.id, "rewrite", answer.reason, (edited,), cases)
