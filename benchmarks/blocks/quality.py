"""Quality of the default: test figures, everyday queries, references, teacher and student, parity."""

import json

from benchmarks.blocks.tables import ROOT, read_result, source, table


def quality() -> str:
    """Test figures of the default."""
    figures = read_result("evaluate_default")["figures"]
    columns = {
        "nDCG@10": "ndcg_at_10",
        "accuracy": "accuracy",
        "majority": "majority_accuracy",
        "macro-F1": "macro_f1",
        "kappa": "qwk",
        "Spearman": "spearman",
        "ECE": "ece",
    }
    rows = [
        [name, str(row["num_pairs"]), str(row["num_queries"]), *(f"{row[key]:.3f}" for key in columns.values())]
        for name, row in figures.items()
    ]
    return table(["file", "pairs", "queries", *columns], rows) + source("evaluate_default")


def everyday() -> str:
    """The sixty everyday queries."""
    figures = read_result("everyday_default")["figures"]
    share, count = figures["relevant_first"], figures["num_queries"]
    means = figures["mean_score"]
    return (
        f"The relevant text comes first for {round(share * count)} of {count} everyday queries (mean score "
        f"{means['relevant']:.2f}, against {means['shares_words']:.2f} for a text that shares words and "
        f"{means['off_topic']:.2f} off topic).\n" + source("everyday_default")
    )


def baselines() -> str:
    """What the default is measured against."""
    ours = read_result("evaluate_default")["figures"]
    lines = []
    for name, row in read_result("baselines")["figures"].items():
        random, cosine, found = row["random_ndcg_at_10"], row["minilm_cosine_ndcg_at_10"], ours[name]["ndcg_at_10"]
        lines.append(
            f"{name} nDCG@10 beside what needs no training of ours: random order {random:.3f}, "
            f"all-MiniLM-L6-v2's cosine {cosine:.3f}; the default's {found:.3f} is {cosine - found:.3f} short of "
            "the latter.\n"
        )
    return "".join(lines) + source("baselines")


def teacher_student() -> str:
    """Both as artifacts, side by side."""
    result = read_result("teacher_student")
    rows = []
    for name, model in result["models"].items():
        for file, figures in result["figures"][name].items():
            shown = (f"{figures[key]:.3f}" for key in ("macro_f1", "accuracy", "qwk", "ndcg_at_10"))
            size = f"{model['num_layers']}, {model['num_bytes'] / 2**20:.0f} MiB"
            rows.append([name, size, f"{result['median_ms'][name]:.0f} ms", file, *shown])
    kept = (f"{file} {100 * values['macro_f1']:.0f} %" for file, values in result["kept"].items())
    header = ["model", "layers, int8 size", f"{result['num_documents']} short documents", "file"]
    return (
        table([*header, "macro-F1", "accuracy", "kappa", "nDCG@10"], rows)
        + f"\nMacro-F1 the student keeps of the teacher's: {', '.join(kept)}; the teacher takes "
        f"{result['time_ratio']:.2f} times as long.\n" + source("teacher_student")
    )


def calibration() -> str:
    """Calibration error of the default, and what a file's own calibration would leave of it."""
    details = read_result("evaluate_default")["details"]
    rows = [
        [
            file,
            f"{one['ece']['before']:.3f}",
            f"{one['ece']['after']:.3f}",
            *(f"{one['ece']['own'][name]:.3f}" for name in ("temperature", "temperature_and_bias")),
        ]
        for file, one in details.items()
    ]
    header = ["file", "temperature 1", "as shipped", "temperature of its own", "and a bias a grade"]
    return table(header, rows) + source("evaluate_default")


def cross_encoder() -> str:
    """The default beside a cross-encoder fine-tuned on the same shop pairs."""
    result = read_result("cross_encoder")
    ours, theirs = read_result("evaluate_default")["figures"]["homedepot/test"], result["test"]
    names = {"macro-F1": "macro_f1", "kappa": "qwk", "accuracy": "accuracy", "ECE": "ece"}
    rows = [
        ["cross-encoder", *(f"{theirs[key]:.3f}" for key in names.values())],
        ["default", *(f"{ours[key]:.3f}" for key in names.values())],
        ["ratio", *(f"{ours[key] / theirs[key]:.2f}" for key in names.values())],
    ]
    return table(["homedepot/test", *names], rows) + source("cross_encoder")


def parity() -> str:
    """What the parity gate measured of the default."""
    manifest = json.loads((ROOT / "artifacts" / "default" / "manifest.json").read_text(encoding="utf-8"))
    rows = [
        [
            one["compared"],
            str(one["num_pairs"]),
            f"{one['max_difference']:.1e}",
            f"{one['mean_difference']:.1e}",
            f"{one['grade_flips']:.3f}",
            f"{one['kendall_tau']:.4f}",
        ]
        for one in manifest["parity"]["agreements"]
    ]
    header = ["compared", "pairs", "max difference", "mean difference", "grade flips", "Kendall tau"]
    return table(header, rows) + f"\nOn {manifest['parity']['pairs']}.\n"
