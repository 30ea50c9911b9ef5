"""Learning a language model, and its tokenizer, from texts alone."""

from dataclasses import dataclass

from .base import Method, TrainerArguments, _, argument


@dataclass(frozen=True, kw_only=True)
class PretrainArguments(TrainerArguments):
    text_folder: str = argument(
        "",
        _("Folder of texts"),
        _("Its whole path on this server: *.txt, *.md, *.jsonl and *.parquet, the first three also as *.gz."),
        maximum=300,
    )
    learning_rate: float = argument(
        1e-3, _("Learning rate"), _("Step size of the optimiser at its peak."), minimum=1e-8, maximum=1.0
    )
    per_device_train_batch_size: int = argument(
        16, _("Batch size"), _("Rows per step on each device."), minimum=1, maximum=1024
    )
    max_length: int = argument(
        512, _("Tokens per row"), _("How far the model can look back, in tokens."), minimum=16, maximum=131_072
    )
    vocab_size: int = argument(
        8192, _("Vocabulary"), _("Tokens that the tokenizer learns at most."), minimum=300, maximum=262_144
    )
    hidden_size: int = argument(
        256, _("Width"), _("Width of the model; a multiple of twice the attention heads."), minimum=16, maximum=16_384
    )
    num_hidden_layers: int = argument(6, _("Layers"), _("Transformer blocks."), minimum=1, maximum=128)
    num_attention_heads: int = argument(
        4, _("Attention heads"), _("Attention heads of a block."), minimum=1, maximum=128, advanced=True
    )
    num_key_value_heads: int = argument(
        2,
        _("Key and value heads"),
        _("Heads that share keys and values; divides the attention heads."),
        minimum=1,
        maximum=128,
        advanced=True,
    )
    min_characters: int = argument(
        100, _("Shortest text"), _("Shorter texts are left out, in characters."), minimum=1, maximum=1_000_000
    )
    similarity_threshold: float = argument(
        0.8,
        _("Near duplicates"),
        _(
            "A text is left out whose five-word phrases overlap this much with an earlier one's; 1 takes out equal ones alone."
        ),
        minimum=0.3,
        maximum=1,
        advanced=True,
    )
    test_fraction: float = argument(
        0.05, _("Held-out share"), _("Share of the texts that is only measured on."), minimum=0.001, maximum=0.5
    )
    weight_decay: float = argument(
        0.1, _("Weight decay"), _("Weight decay of AdamW."), minimum=0, maximum=1, advanced=True
    )


METHODS = (
    Method(
        name="pretrain",
        title=_("Pre-training"),
        summary=_("Make a tokenizer and a small language model from a folder of texts."),
        arguments=PretrainArguments,
        inputs={},
        makes="causal_lm",
        dataset="none",
    ),
)
