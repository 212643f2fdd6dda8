"""A chat endpoint that speaks the OpenAI protocol: its key, and what went wrong in words.

Keys come from a file or from the SDK's own `OPENAI_API_KEY`; they are never written anywhere.
"""

from pathlib import Path

import openai


class EndpointError(RuntimeError):
    """The endpoint cannot be used; the message says which one and why."""


def open_async_client(
    base_url: str | None, key_file: Path | None, timeout_s: float, max_retries: int
) -> openai.AsyncOpenAI:
    """A client of the endpoint at `base_url`, or of the SDK's default.

    Raises:
        EndpointError: there is no key.
    """
    try:
        key = None if key_file is None else key_file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise EndpointError(f"{key_file}: {error.strerror}") from error
    try:
        return openai.AsyncOpenAI(base_url=base_url, api_key=key, timeout=timeout_s, max_retries=max_retries)
    except openai.OpenAIError as error:
        raise EndpointError(f"{base_url}: no key: give a key file or set OPENAI_API_KEY ({error})") from error


def explain_failure(error: openai.APIError, where: str) -> EndpointError:
    """What an error of the SDK means for whoever runs the command; `where` names the endpoint and the model."""
    if isinstance(error, openai.APITimeoutError):
        return EndpointError(f"{where}: no answer in time")
    if isinstance(error, openai.APIConnectionError):
        return EndpointError(f"{where}: cannot be reached ({error.__cause__ or error})")
    if isinstance(error, openai.APIStatusError):
        advice = {401: "the key is wrong", 403: "the key may not use this", 404: "no such address or model"}
        said = advice.get(error.status_code, "refused")
        return EndpointError(f"{where}: {said} (status {error.status_code}: {error.message})")
    return EndpointError(f"{where}: {error}")
