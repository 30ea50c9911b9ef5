"""A byte-level tokenizer and a 140,000-parameter Llama made in code, and run folders with planted preferences."""

import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.recipes.forks import Forked, ForkServer

Row = dict[str, Any]
FORKS = ForkServer()

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}

CHAT_TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def save_tiny_model(
    folder: Path, *, chat_template: str | None = CHAT_TEMPLATE, hidden: int = 64, layers: int = 2
) -> Path:
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    special = ["<|pad|>", "<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    vocabulary = {token: at for at, token in enumerate(special + sorted(pre_tokenizers.ByteLevel.alphabet()))}
    bytes_only = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    bytes_only.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    bytes_only.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bytes_only,
        pad_token="<|pad|>",
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        unk_token="<|endoftext|>",
        model_max_length=512,
    )
    tokenizer.chat_template = chat_template
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=hidden,
            intermediate_size=4 * hidden,
            num_hidden_layers=layers,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=512,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            tie_word_embeddings=True,
        )
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


WORDS = ["oak", "elm", "ash", "fir", "yew", "bay", "fig", "box", "tea", "rye"]


def planted_ranking(number: int, *, k: int = 4) -> Row:
    """A ranking whose annotator likes exclamation marks: the more, the better."""
    choose = random.Random(number)
    marks = choose.sample(range(k), k)
    completions = [
        {
            "completion": f"{choose.choice(WORDS)} {choose.choice(WORDS)}" + "!" * count,
            "reasoning": "",
            "source": "tiny",
        }
        for count in marks
    ]
    return {
        "ranking": f"{number:032x}",
        "prompt_id": f"prompt {number}",
        "prompt": [{"role": "user", "content": f"{choose.choice(WORDS)} {number}?"}],
        "completions": completions,
        "ranks": [k - count for count in marks],
        "verdict": "ranked",
        "annotator": "A1",
        "weight": 1.0,
        "reasons": [],
        "comment": "",
        "seconds": 3.0,
        "split": "test" if number % 4 == 0 else "train",
    }


def planted_demonstration(number: int) -> Row:
    choose = random.Random(number)
    return {
        "demonstration": f"{number:032x}",
        "prompt_id": f"prompt {number}",
        "prompt": [{"role": "user", "content": f"{choose.choice(WORDS)} {number}?"}],
        "completion": "so be it.",
        "reasoning": "",
        "annotator": "A1",
        "split": "test" if number % 4 == 0 else "train",
    }


def write_parquet(path: Path, rows: list[Row]) -> None:
    message = pa.struct([("role", pa.string()), ("content", pa.string())])
    completion = pa.struct([("completion", pa.string()), ("reasoning", pa.string()), ("source", pa.string())])
    types = {
        "prompt": pa.list_(message),
        "completions": pa.list_(completion),
        "ranks": pa.list_(pa.int32()),
        "ratings": pa.list_(pa.list_(pa.struct([("criterion", pa.string()), ("rating", pa.int32())]))),
        "reasons": pa.list_(pa.string()),
        "weight": pa.float64(),
        "seconds": pa.float64(),
    }
    names = list(rows[0]) if rows else list(planted_ranking(0))
    schema = pa.schema([(name, types.get(name, pa.string())) for name in names])
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)


def make_run(
    path: Path,
    method: str,
    model: Path | Row | None,
    *,
    inputs: dict[str, Path | Row] | None = None,
    rankings: list[Row] | None = None,
    demonstrations: list[Row] | None = None,
    prompts: list[Row] | None = None,
    number: int = 1,
    **arguments,
) -> Path:
    """A run's folder as the worker lays it. `model` plays the policy, `inputs` maps further roles to theirs."""
    (path / "data").mkdir(parents=True)
    if rankings is not None:
        write_parquet(path / "data/rankings.parquet", rankings)
    if demonstrations is not None:
        write_parquet(path / "data/demonstrations.parquet", demonstrations)
    if prompts is not None:
        text = "".join(json.dumps(prompt, ensure_ascii=False) + "\n" for prompt in prompts)
        (path / "data/prompts.jsonl").write_text(text, encoding="utf-8")
    roles = ({"policy": model} if model else {}) | (inputs or {})
    models = {role: one if isinstance(one, dict) else {"location": f"folder:{one}"} for role, one in roles.items()}
    args = {"run": number, "method": method, "arguments": arguments, "inputs": models, "dataset": "data"}
    (path / "args.json").write_text(json.dumps(args))
    return path


def start(run: Path) -> Forked:
    """Starts the recipe in a process of its own, as the worker does; its output goes to log.txt."""
    method = json.loads((run / "args.json").read_text())["method"]
    return FORKS.start(method, run, {**ENVIRONMENT, "PODIUM_HOME": str(run / "home")}, run / "log.txt")


def finish(run: Path, expect: int = 0) -> None:
    code = start(run).wait(timeout=200)
    assert code == expect, (run / "log.txt").read_text()[-3000:]


def read_jsonl(path: Path) -> list[Row]:
    """Lines end at b"\\n" alone: str.splitlines would also cut at U+2028 inside a string."""
    return [json.loads(line) for line in path.open("rb")] if path.exists() else []


def events(run: Path, kind: str) -> list[Row]:
    return [event for event in read_jsonl(run / "events.jsonl") if event["kind"] == kind]


def curve(run: Path, name: str) -> dict[int, float]:
    """step → value; where a step was done twice the later attempt counts."""
    return {event["step"]: event["metrics"][name] for event in events(run, "metrics") if name in event["metrics"]}


def result(run: Path) -> Row:
    loaded: Row = json.loads((run / "result.json").read_text())
    return loaded
