"""Client of Answer First: scores, rankings, and explanations as they are written.

    with Client("http://localhost:8080") as client:
        answer = client.score("usb c cable", ["USB-C to USB-C 1 m", "wool socks"], explain=True)
        for event in client.explain(answer.results[0].handle):
            print(event)

`AsyncClient` is the same with `await` and `async for`. Both try again what may succeed, no sooner than the service
asks, and go on with a stream whose connection broke, exactly where it was.
"""

from answer_first_client.aio import AsyncClient
from answer_first_client.answers import Explained, Model, Ranked, Result, ScoreAnswer
from answer_first_client.client import Client
from answer_first_client.errors import (
    AnswerFirstError,
    ConnectionLostError,
    DeadlineError,
    HandleGoneError,
    OverloadedError,
    RefusedError,
    ServiceFailedError,
    StatusError,
    UnauthorizedError,
)
from answer_first_client.events import Delta, Done, Event, Grade, Step
from answer_first_client.retries import Retries

__all__ = [
    "AnswerFirstError",
    "AsyncClient",
    "Client",
    "ConnectionLostError",
    "DeadlineError",
    "Delta",
    "Done",
    "Event",
    "Explained",
    "Grade",
    "HandleGoneError",
    "Model",
    "OverloadedError",
    "Ranked",
    "RefusedError",
    "Result",
    "Retries",
    "ScoreAnswer",
    "ServiceFailedError",
    "StatusError",
    "Step",
    "UnauthorizedError",
]
