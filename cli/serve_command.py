"""`answer-first serve`: the service, with its most used settings by name and all the others handed on."""

from pathlib import Path
from typing import Annotated

import typer

from cli.errors import MISUSED, CliError, Missing


def serve(
    context: typer.Context,
    artifact: Annotated[Path | None, typer.Option(help="Artifact folder; default: artifacts/default.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on; default: this machine only.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one. Default: 8080.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes; default: what pays for this model.")] = None,
    replicas: Annotated[
        str | None, typer.Option(help="Replicas on Ray Serve, as in 4, or 2-8 for as many as the load needs.")
    ] = None,
    all_settings: Annotated[bool, typer.Option("--all-settings", help="List every setting and end.")] = False,
) -> None:
    """Serve an artifact over HTTP: `/score`, `/explain`, and a playground at `/`.

    `answer-first serve my-artifact --port 9000`

    `answer-first serve --replicas 2` runs it on Ray Serve, which a cluster does too (docs/scale.md).

    Every other setting of the service is a flag too, as in `--max-pack-tokens 128`; `--all-settings` lists them.
    Variables of the form `ANSWER_FIRST_PORT` do the same.
    """
    from service.__main__ import main  # noqa: PLC0415 - a command loads what it needs

    if all_settings:
        main(["--help"])
    rest = list(context.args)
    if rest and not rest[0].startswith("-"):  # a folder; behind a flag it is the flag's value
        artifact = Path(rest.pop(0))
    named = {"--artifact": artifact, "--host": host, "--port": port, "--workers": workers}
    arguments = [text for flag, value in named.items() if value is not None for text in (flag, str(value))]
    if artifact is not None and not artifact.is_dir():
        raise CliError(f"{artifact}: there is no such artifact folder")
    if replicas is not None:
        raise typer.Exit(_serve_replicas(replicas, [*arguments, *rest]))
    raise typer.Exit(main([*arguments, *rest]))


def _serve_replicas(replicas: str, arguments: list[str]) -> int:
    least, dash, most = replicas.partition("-")
    if not (least.isdecimal() and int(least)) or (dash and not (most.isdecimal() and int(most) >= int(least))):
        raise CliError(f"--replicas {replicas}: give a number, or two as in 2-8", MISUSED)
    try:
        from scale.serving.application import ReplicaSet  # noqa: PLC0415 - loads Ray
        from scale.serving.program import main as serve_replicas  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise Missing(f"Ray Serve ({error.name})", "scale") from error
    wanted = ReplicaSet(min_replicas=int(least), max_replicas=int(most) if most else None)
    return serve_replicas(arguments, wanted, lambda line: typer.echo(line, err=True))
