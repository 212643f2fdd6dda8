"""What `answer-first inspect` shows of an artifact."""

import shutil
from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table

from relevance.artifact import Manifest, load_artifact, read_manifest

# Below it the tables would cut their words; a terminal wraps lines by itself.
MIN_WIDTH = 120


def show(artifact: Path, as_json: bool) -> None:
    """Print the manifest; as text, only once every file is what it says.

    Raises:
        ArtifactError: there is none, or a file is not.
    """
    manifest = read_manifest(artifact)
    if as_json:
        typer.echo(manifest.model_dump_json(indent=1))
        return
    loaded = load_artifact(artifact)
    console = Console(highlight=False, soft_wrap=True, width=max(MIN_WIDTH, shutil.get_terminal_size().columns))
    console.print(f"[bold]{manifest.name}[/bold]  {loaded.hash}")
    facts = _facts(manifest)
    width = max(map(len, facts))
    for name, value in facts.items():
        console.print(f"  {name:{width}}  {value}", markup=False)
    console.print(_files(manifest))
    console.print(_parity(manifest))


def _facts(manifest: Manifest) -> dict[str, str]:
    spec, graph, origin = manifest.spec, manifest.graph, manifest.provenance
    limits = spec.limits
    shape = f"{graph.num_layers} layers, {graph.num_kv_heads} KV heads of {graph.head_dim}, hidden {graph.hidden_size}"
    return {
        "precision": f"{manifest.precision}, for {manifest.target}",
        "grades": ", ".join(f"{grade} {name}" for grade, name in enumerate(spec.scale.names)),
        "prompt": f"at most {limits.max_tokens} tokens, {limits.max_query_tokens} of them the query's",
        "attention": spec.attention,
        "instruction": "taken" if spec.template.instruction is not None else "not taken",
        "temperature": f"{spec.temperature:.3f}",
        "graph": f"{shape}, vocabulary {graph.vocab_size}",
        "made": f"{origin.created}, commit {origin.commit or 'unknown'}",
        "by": origin.command,
        "golden pairs": f"{len(manifest.golden_pairs)}, tolerance {manifest.golden_tolerance:g}",
    }


def _files(manifest: Manifest) -> Table:
    table = Table(title="Files, verified", title_justify="left", box=None, padding=(0, 2))
    for column in ("file", "MB", "sha256"):
        table.add_column(column, justify="right" if column == "MB" else "left")
    for name, entry in sorted(manifest.files.items()):
        table.add_row(name, f"{entry.num_bytes / 1e6:.2f}", entry.sha256[:16])
    return table


def _parity(manifest: Manifest) -> Table:
    title = f"Parity, {manifest.parity.pairs}: differences of a grade's probability"
    table = Table(title=title, title_justify="left", box=None, padding=(0, 2))
    for column in ("compared", "pairs", "max", "mean", "grade flips", "Kendall tau"):
        table.add_column(column, justify="left" if column == "compared" else "right", no_wrap=True)
    for one in manifest.parity.agreements:
        figures = (
            f"{one.max_difference:.1e}",
            f"{one.mean_difference:.1e}",
            f"{one.grade_flips:.3f}",
            f"{one.kendall_tau:.4f}",
        )
        table.add_row(one.compared, str(one.num_pairs), *figures)
    return table
