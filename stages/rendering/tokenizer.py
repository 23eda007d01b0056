"""A tokenizer trained on a corpus's own text, for backbones from scratch: byte-level BPE (arXiv 1508.07909).

Every string can be encoded and decoded again, whatever its script. A line break is a token by itself and part of no
other, since it ends a name. Digits are not split: 1994 is one token where it is frequent.
"""

from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

PAD, END = "<pad>", "<end>"  # tokens 0 and 1
LEAST = 2  # times that a pair of tokens has to occur to become one


def train(lines: Iterable[str], vocabulary: int, folder: Path) -> PreTrainedTokenizerFast:
    """Train on lines, write what AutoTokenizer loads into a folder, and give it back.

    The vocabulary has as many tokens as the lines give reason for, at most `vocabulary`. The same lines in the same
    order give the same bytes. What a text says of "<pad>" is text: special tokens are never read out of one.
    """
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split("\n", "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        min_frequency=LEAST,
        special_tokens=[PAD, END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator(lines, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token=PAD,
        eos_token=END,
        clean_up_tokenization_spaces=False,
        split_special_tokens=True,
    )
    tokenizer.save_pretrained(folder)
    return tokenizer
