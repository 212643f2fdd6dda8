"""A tiny artifact for tests: seeded random weights through the very path a trained checkpoint takes.

    python -m model_export.tiny tests/data/tiny_artifact
    python -m model_export.tiny CHECKPOINT --checkpoint-only

Three layers of width 32 over a WordPiece vocabulary of a few hundred pieces. Its grades mean nothing; its shapes,
files and code paths are those of the default model.
"""

import argparse
import string
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import WordPiece
from transformers import BertConfig, BertLMHeadModel

from model_export.parity import DEFAULT_THRESHOLDS
from model_export.publish import ExportOptions, export
from modeling.late_bert import LateBertConfig, LateBertForGrading
from relevance.spec import SPEC_FILE, ScoringSpec
from relevance.tokenization import JsonTokenizer

SEED = 20
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
WORDS = """
the a of to and in is it for on with that this are as by from at or an be not no yes more how what why who when where
best good new old red blue white black cable usb hdmi meter battery drill set pack size men women shoes socks water air
light heat power car bread egg time day city country capital python file read line phone case laptop ram kettle steel
tea coffee query document grade answer perfect related irrelevant
"""


def make_tokenizer() -> Tokenizer:
    """Lower-casing WordPiece over letters, digits, punctuation and the words above."""
    pieces = list(SPECIAL)
    pieces += string.digits + string.ascii_lowercase + string.punctuation
    pieces += [f"##{character}" for character in string.digits + string.ascii_lowercase]
    pieces += [word for word in WORDS.split() if len(word) > 1]
    pieces += ["##s", "##ing", "##ed", "##er", "##ly", "##tion"]
    vocab = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(WordPiece(vocab, unk_token="[UNK]", max_input_chars_per_word=64))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens(list(SPECIAL))
    return tokenizer


def write_checkpoint(folder: Path, *, is_late: bool = True) -> None:
    """A complete checkpoint folder, the same bytes for the same library versions; not late: a plain BERT decoder."""
    tokenizer = make_tokenizer()
    torch.manual_seed(SEED)
    config = (LateBertConfig if is_late else BertConfig)(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=32,
        num_hidden_layers=3 if is_late else 2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=256,
        initializer_range=0.3,  # wide enough that grades differ from pair to pair
        is_decoder=True,
        tie_word_embeddings=True,
    )
    if isinstance(config, LateBertConfig):
        config.num_encoder_layers = 1
        labels = ScoringSpec.preset("minilm-late").scale.resolve_label_token_ids(JsonTokenizer(tokenizer.to_str()))
        config.label_token_ids = list(labels)
    model = LateBertForGrading(config) if isinstance(config, LateBertConfig) else BertLMHeadModel(config)
    if isinstance(model, LateBertForGrading):
        with torch.no_grad():  # random keys are all alike: a full comparison would hide everything else
            model.comparison.weight.mul_(0.1)
            model.label_comparison.weight.mul_(0.1)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    (folder / "tokenizer.json").write_text(tokenizer.to_str(), encoding="utf-8")
    spec = ScoringSpec.preset("minilm-late" if is_late else "minilm-grades")
    limits = spec.limits.model_copy(update={"max_tokens": 192, "max_query_tokens": 32, "max_instruction_tokens": 64})
    spec.model_copy(update={"limits": limits}).to_file(folder / SPEC_FILE)


def main(arguments: Sequence[str]) -> int:
    """Write the artifact, or the checkpoint alone."""
    parser = argparse.ArgumentParser(prog="python -m model_export.tiny")
    parser.add_argument("out", metavar="OUT", type=Path)
    parser.add_argument("--checkpoint-only", action="store_true", help="stop at the checkpoint folder")
    parser.add_argument("--precision", choices=("fp32", "int8", "fp16"), default="fp32")
    found = parser.parse_args(arguments)
    if found.checkpoint_only:
        write_checkpoint(found.out)
        return 0
    with tempfile.TemporaryDirectory() as work:
        checkpoint = Path(work) / "tiny"
        write_checkpoint(checkpoint)
        options = ExportOptions(
            checkpoint=str(checkpoint),
            out=found.out,
            precision=found.precision,
            command="python -m model_export.tiny OUT",
            thresholds=DEFAULT_THRESHOLDS,
        )
        export(options)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
