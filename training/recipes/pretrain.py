"""A tokenizer and a small language model from a folder of texts.

    python -m training.recipes.pretrain RUN_DIR

Next-token prediction (GPT-2; the network is Llama's, arXiv:2302.13971): byte-level BPE, rows packed from whole texts one after
the other, each ended by the token that ends an answer in chat too, so that supervised fine-tuning needs no new one.
Departures: attention reaches over the texts' ends within a row, as in GPT-2; what does not fill the last row is left out.

The texts are cleaned, split by text and tokenised once per run, into `prepared/`. On transformers' own Trainer.
Shapes: R rows, L tokens in each.
"""

import json
import math
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.utils.data import Dataset
from transformers import (
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Trainer,
    TrainingArguments,
    set_seed,
)

from training.recipes.arguments import PretrainArguments
from training.recipes.run_folder import RunFailed, RunFolder, finite, main
from training.recipes.texts import REASONS, find_files, is_held_out, kept_texts, read_texts
from training.recipes.training import SAMPLE_TOKENS, FiniteLoss, RunEvents, configure, save_checkpoint, train

PAD, UNKNOWN, START, END = "<|pad|>", "<|unknown|>", "<|im_start|>", "<|im_end|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SHOWN = 3
BEGINNING = 12  # tokens of a held-out text that the model goes on from
ENCODED_AT_ONCE = 256


class Rows(Dataset[dict[str, torch.Tensor]]):
    """A file of token ids as R rows of L; read from the disk row by row."""

    def __init__(self, path: Path, length: int, dtype: str) -> None:
        ids = np.memmap(path, dtype=dtype, mode="r") if path.stat().st_size else np.zeros(0, dtype)
        self.ids_RL = ids[: len(ids) // length * length].reshape(-1, length)

    def __len__(self) -> int:
        return len(self.ids_RL)

    def __getitem__(self, at: int) -> dict[str, torch.Tensor]:
        ids_L = torch.from_numpy(self.ids_RL[at].astype(np.int64))
        return {"input_ids": ids_L, "labels": ids_L}


class PretrainTrainer(FiniteLoss, Trainer):
    pass


def pretrain(folder: RunFolder, arguments: PretrainArguments) -> None:
    # Data: cleaned, split, tokenised; once per run
    set_seed(arguments.seed)
    prepared = prepare(folder, arguments)
    about = json.loads((prepared / "about.json").read_text(encoding="utf-8"))
    tokenizer = PreTrainedTokenizerFast.from_pretrained(prepared)
    training = Rows(prepared / "train.bin", arguments.max_length, about["dtype"])
    held_out = Rows(prepared / "test.bin", arguments.max_length, about["dtype"])
    if not len(training):
        raise RunFailed(
            "no_data",
            f"The texts come to {about['train_tokens']} tokens, which fill no row of {arguments.max_length}. "
            "Add texts, or choose shorter rows.",
        )
    if not len(held_out):
        folder.note("The held-out texts fill no row, so there is no held-out perplexity.")

    # Model
    model = LlamaForCausalLM(make_config(arguments, tokenizer))
    folder.note(
        f"The model has {model.num_parameters():,} parameters; {len(training) * arguments.max_length:,} tokens to learn from."
    )

    # Train
    trainer = PretrainTrainer(
        model,
        args=configure(TrainingArguments, folder, arguments, held_out),
        train_dataset=training,
        eval_dataset=held_out if len(held_out) else None,
        processing_class=tokenizer,
    )
    samples = Continuations(folder, model, tokenizer, about["beginnings"])
    train(trainer, folder, RunEvents(folder, samples))

    # Measure
    metrics: dict[str, Any] = {"parameters": model.num_parameters(), "train_tokens": about["train_tokens"]}
    if len(held_out):
        nats = mean_loss(trainer, held_out)
        # Per byte as well: perplexities of different tokenizers do not compare.
        bits = nats * about["test_tokens"] / math.log(2) / about["test_bytes"]
        metrics |= {"eval_loss": nats, "eval_perplexity": math.exp(min(nats, 700)), "eval_bits_per_byte": bits}
    samples.show(trainer.state.global_step)

    # Save
    save_checkpoint(trainer, folder)
    folder.event("metrics", step=trainer.state.global_step, metrics=finite(metrics))
    folder.save_result(metrics)


def make_config(arguments: PretrainArguments, tokenizer: PreTrainedTokenizerFast) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=arguments.hidden_size,
        intermediate_size=math.ceil(arguments.hidden_size * 8 / 3 / 32) * 32,
        num_hidden_layers=arguments.num_hidden_layers,
        num_attention_heads=arguments.num_attention_heads,
        num_key_value_heads=arguments.num_key_value_heads,
        max_position_embeddings=arguments.max_length,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def prepare(folder: RunFolder, arguments: PretrainArguments) -> Path:
    """The folder with the tokenizer, train.bin, test.bin and about.json, made unless an earlier attempt has made it."""
    prepared, partial = folder.path / "prepared", folder.path / "prepared.partial"
    if prepared.is_dir():
        return prepared
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    counts: Counter[str] = Counter()
    files = find_files(Path(arguments.text_folder))
    raw = (text for path in files for text in read_texts(path))
    with (partial / "train.jsonl").open("w") as train_file, (partial / "test.jsonl").open("w") as test_file:
        for text in kept_texts(
            raw, min_characters=arguments.min_characters, threshold=arguments.similarity_threshold, counts=counts
        ):
            held_out = is_held_out(text, arguments.test_fraction)
            (test_file if held_out else train_file).write(json.dumps(text) + "\n")
            if counts["kept"] % 1000 == 0:
                folder.event("progress", step=0, total=0)
    for key, reason in REASONS.items():
        if counts[key]:
            folder.note(f"{counts[key]:,} of {counts['read']:,} texts were left out: {reason}.")
    if not counts["kept"]:
        raise RunFailed("no_data", "No text is left to learn from; the notes say what was left out.")
    tokenizer = train_tokenizer(_lines(partial / "train.jsonl"), arguments.vocab_size, arguments.max_length)
    tokenizer.save_pretrained(partial)
    dtype = "uint16" if len(tokenizer) <= 2**16 else "uint32"
    about: dict[str, Any] = {"dtype": dtype, "texts": dict(counts)}
    for split in ("train", "test"):
        about |= _encode_file(partial, split, tokenizer, dtype)
    about["beginnings"] = _beginnings(partial, tokenizer)
    for split in ("train", "test"):
        (partial / f"{split}.jsonl").unlink()
    (partial / "about.json").write_text(json.dumps(about), encoding="utf-8")
    partial.rename(prepared)
    return prepared


def _lines(path: Path) -> Iterator[str]:
    with path.open() as file:
        yield from (json.loads(line) for line in file)


def train_tokenizer(texts: Iterator[str], vocab_size: int, max_length: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with at most `vocab_size` tokens and a chat template. It can write any text and back."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[PAD, UNKNOWN, START, END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token=PAD,
        unk_token=UNKNOWN,
        eos_token=END,
        additional_special_tokens=[START],
        model_max_length=max_length,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def _encode_file(partial: Path, split: str, tokenizer: PreTrainedTokenizerFast, dtype: str) -> dict[str, int]:
    """Writes the texts of one side as one stream of ids, END after each. Counts tokens and the texts' bytes."""
    end, tokens, size = tokenizer.eos_token_id, 0, 0
    tokenizer.backend_tokenizer.encode_special_tokens = True  # a text that speaks of <|im_end|> does not end there
    with (partial / f"{split}.bin").open("wb") as out:
        batch: list[str] = []

        def write() -> int:
            encoded = tokenizer.backend_tokenizer.encode_batch(batch, add_special_tokens=False)
            ids = np.concatenate([np.array([*one.ids, end], dtype) for one in encoded])
            out.write(ids.tobytes())
            return len(ids)

        for text in _lines(partial / f"{split}.jsonl"):
            batch.append(text)
            size += len(text.encode("utf-8", "replace"))
            if len(batch) == ENCODED_AT_ONCE:
                tokens += write()
                batch = []
        if batch:
            tokens += write()
    return {f"{split}_tokens": tokens, f"{split}_bytes": size}


def _beginnings(partial: Path, tokenizer: PreTrainedTokenizerFast) -> list[str]:
    for split in ("test", "train"):
        found = []
        for text in _lines(partial / f"{split}.jsonl"):
            ids = tokenizer(text, add_special_tokens=False)["input_ids"]
            found.append(tokenizer.decode(ids[:BEGINNING]))
            if len(found) == SHOWN:
                return found
        if found:
            return found
    return []


class Continuations:
    """How the model goes on from the beginnings of held-out texts, greedily."""

    def __init__(
        self, folder: RunFolder, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, beginnings: list[str]
    ) -> None:
        self.folder, self.model, self.tokenizer, self.beginnings = folder, model, tokenizer, beginnings
        self.shown_at = -1

    @torch.no_grad()
    def show(self, step: int) -> None:
        if step == self.shown_at:
            return
        self.shown_at = step
        was_training = self.model.training
        self.model.eval()
        for beginning in self.beginnings:
            batch = self.tokenizer(beginning, add_special_tokens=False, return_tensors="pt").to(self.model.device)
            ids = self.model.generate(
                input_ids=batch["input_ids"],
                attention_mask=batch["attention_mask"],
                generation_config=GenerationConfig(
                    do_sample=False,
                    max_new_tokens=SAMPLE_TOKENS,
                    eos_token_id=self.tokenizer.eos_token_id,
                    pad_token_id=self.tokenizer.pad_token_id,
                ),
            )
            text = self.tokenizer.decode(ids[0, batch["input_ids"].shape[1] :], skip_special_tokens=True)
            prompt = [{"role": "user", "content": beginning}]
            self.folder.event("sample", step=step, prompt=prompt, before=None, after=text)
        self.model.train(was_training)


@torch.no_grad()
def mean_loss(trainer: Trainer, rows: Rows) -> float:
    """Nats per token over all rows, each token counted once."""
    trainer.model.eval()
    total = 0.0
    for batch in trainer.get_eval_dataloader(rows):
        with trainer.compute_loss_context_manager():
            total += trainer.model(**batch).loss.item() * len(batch["input_ids"])
    return total / len(rows)


if __name__ == "__main__":
    main("pretrain", pretrain)
