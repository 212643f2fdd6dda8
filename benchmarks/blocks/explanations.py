"""Explanations: criteria by rule against judged ones, and what the grammar costs."""

from benchmarks.blocks.tables import read_result, source, table


def criteria_agreement() -> str:
    """Quadratic kappa of derived with judged criteria."""
    rows = []
    for name, figures in read_result("criteria_agreement")["figures"].items():
        shown = [
            f"{one['kappa']:.2f} ({one['kappa_of_grade']:.2f})" for key, one in figures.items() if key != "num_pairs"
        ]
        rows.append([name, str(figures["num_pairs"]), *shown])
    header = ["file", "pairs", "exactness", "coverage", "topicality", "context"]
    return table(header, rows) + source("criteria_agreement")


def grammar() -> str:
    """Set-up and choices of the grammar."""
    rows = []
    for tokenizer, files in read_result("bench_grammar")["figures"].items():
        for name, one in files.items():
            rows.append(
                [
                    tokenizer,
                    name,
                    f"{one['mean_document_tokens']:.0f}",
                    f"{one['set_up_ms']:.2f} ms",
                    f"{one['choice_us']:.0f} us",
                    f"{one['choice_p99_us']:.0f} us",
                    f"{one['mean_tokens']:.0f}",
                    f"{one['mean_choices']:.0f}",
                    f"{one['holds']:.3f}",
                ]
            )
    header = ["tokenizer of", "file", "document tokens", "set-up", "choice", "p99", "tokens", "choices", "holds"]
    return table(header, rows) + source("bench_grammar")


def explained() -> str:
    """The default's explanations, held to the grammar and free."""
    rows = []
    for name, ways in read_result("explanations_default")["figures"].items():
        for way in ("grammar", "free"):
            one = ways[way]
            rows.append(
                [
                    name,
                    str(one["num_pairs"]),
                    way,
                    *(_share(one[key]) for key in ("parsed", "verdict_is_grade", "quotes_found", "terms_missing")),
                    f"{one['mean_tokens']:.0f}",
                    f"{one['perplexity']:.2f}" if "perplexity" in one else "-",
                ]
            )
    header = ["file", "pairs", "decoding", "parsed", "verdict is the grade", "quotes found", "terms missing", "tokens"]
    return table([*header, "perplexity"], rows) + source("explanations_default")


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
