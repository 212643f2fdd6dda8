"""Commands whose options are those of the program behind them: `export` and `loadtest` hand everything on."""

import typer

from cli.errors import Missing


def export(context: typer.Context) -> None:
    """Turn a checkpoint into an artifact: `answer-first export CHECKPOINT OUT --precision int8`.

    Nothing is published unless the exported graph agrees with the checkpoint. `export --help` has its options.
    """
    try:
        from model_export.__main__ import main  # noqa: PLC0415 - loads torch
    except ModuleNotFoundError as error:
        raise Missing(f"what an export needs ({error.name})", "export") from error
    raise typer.Exit(main(context.args))


def loadtest(context: typer.Context) -> None:
    """Push load at a service until it bends: `answer-first loadtest PLAN.toml --url http://localhost:8080`.

    Plans lie in `loadtest/plans/`. `answer-first loadtest --help` has all options.
    """
    try:
        from loadtest.__main__ import main  # noqa: PLC0415 - loads what draws its charts
    except ModuleNotFoundError as error:
        raise Missing(f"what a load test needs ({error.name})", "loadtest") from error
    raise typer.Exit(main(context.args))
