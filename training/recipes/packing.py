"""The prompt of a ranking encoded once: its completions follow it in the same row and see the prompt and themselves alone.

A row is  prompt without its last token | last prompt token, completion 1 | last prompt token, completion 2 | …  with position ids
that start again after the prompt, and a mask that parts the completions. The prompt's last token is repeated so that each completion's
first token is predicted in the place before it. Scores, losses and gradients are those of one row per completion
(tests/recipes/test_packing.py).

Shapes: B rankings, N completions of all of them, R rows, T tokens of the longest, C of the longest completion.
"""

from typing import Any

import torch
from torch.nn.functional import pad
from transformers import PreTrainedModel

from training.recipes.run_folder import RunFolder

Batch = dict[str, torch.Tensor]

TOLERANCE = 1e-4


def pack(rankings: list[dict[str, Any]], pad_token_id: int) -> Batch:
    """Rankings ({"ids": K token lists, "prompt_length"}) to rows. Several share a row where none grows longer for it.

    Out (R, T): input_ids, position_ids, completion_mask; ranking and part, whose token it is (-1: padding) and of what (0: the prompt,
    k: the k-th completion). Out (N,): row; start, of its first token; end, the token where a score is read, which is the last that
    is no padding token, as transformers has it.
    """
    shared = [max(ranking["prompt_length"] - 1, 0) for ranking in rankings]
    sizes = [
        length + sum(len(ids) - length for ids in ranking["ids"])
        for ranking, length in zip(rankings, shared, strict=True)
    ]
    places, used = fit(sizes)
    shape = (len(used), max(sizes))
    rows_RT = {
        "input_ids": torch.full(shape, pad_token_id),
        "position_ids": torch.zeros(shape, dtype=torch.long),
        "completion_mask": torch.zeros(shape, dtype=torch.long),
        "ranking": torch.full(shape, -1),
        "part": torch.zeros(shape, dtype=torch.long),
    }
    completions_N: dict[str, list[int]] = {"row": [], "start": [], "end": []}
    for at, (ranking, length) in enumerate(zip(rankings, shared, strict=True)):
        row, first = places[at]
        tokens, positions, parts = ranking["ids"][0][:length], list(range(length)), [0] * length
        for part, ids in enumerate(ranking["ids"], start=1):
            offset = first + len(tokens) - length  # from a token's place in `ids` to its place in the row
            scored = max((place for place, token in enumerate(ids) if token != pad_token_id), default=0)
            completions_N["row"].append(row)
            completions_N["start"].append(offset + ranking["prompt_length"])
            completions_N["end"].append(scored + (offset if scored >= length else first))
            tokens = tokens + ids[length:]
            positions += range(length, len(ids))
            parts += [part] * (len(ids) - length)
        place = (row, slice(first, first + len(tokens)))
        rows_RT["input_ids"][place] = torch.tensor(tokens)
        rows_RT["position_ids"][place] = torch.tensor(positions)
        rows_RT["completion_mask"][place] = (torch.tensor(positions) >= max(ranking["prompt_length"], 1)).long()
        rows_RT["ranking"][place] = at
        rows_RT["part"][place] = torch.tensor(parts)
    return {**rows_RT, **{name: torch.tensor(values) for name, values in completions_N.items()}}


def fit(sizes: list[int]) -> tuple[list[tuple[int, int]], list[int]]:
    """(row and first column for each size, tokens in each row), rows as long as the largest size: the longest first, each into the
    first row with room."""
    places, used = [(0, 0)] * len(sizes), list[int]()
    for at in sorted(range(len(sizes)), key=lambda at: -sizes[at]):
        row = next((row for row, tokens in enumerate(used) if tokens + sizes[at] <= max(sizes)), len(used))
        if row == len(used):
            used.append(0)
        places[at] = (row, used[row])
        used[row] += sizes[at]
    return places, used


def model_inputs(batch: Batch) -> Batch:
    """What the model is called with, for a batch of packed rows or of one row per completion."""
    if "part" not in batch:
        return {name: batch[name] for name in ("input_ids", "attention_mask")}
    ranking_RT, part_RT = batch["ranking"], batch["part"]
    same_RTT = ranking_RT[:, :, None] == ranking_RT[:, None, :]
    open_RTT = (part_RT[:, None, :] == 0) | (part_RT[:, :, None] == part_RT[:, None, :])
    mask_RTT = (same_RTT & open_RTT).tril()
    return {
        "input_ids": batch["input_ids"],
        "attention_mask": mask_RTT[:, None],
        "position_ids": batch["position_ids"],
    }


def sum_completions(log_probs_RT: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Each completion's sum (N,) of what its tokens have. The first column belongs to a row's second token, as TRL's fused head gives it;
    tokens outside completions have 0."""
    if "part" not in batch:
        return log_probs_RT.sum(dim=1)
    by_token_RT = pad(log_probs_RT, (1, 0))
    offset_C = torch.arange(int(batch["lengths"].max()), device=log_probs_RT.device)
    column_NC = (batch["start"][:, None] + offset_C).clamp(max=by_token_RT.shape[1] - 1)
    inside_NC = offset_C < batch["lengths"][:, None]
    return (by_token_RT[batch["row"][:, None], column_NC] * inside_NC).sum(dim=1)


def cost(input_ids: torch.Tensor, breadth: float) -> float:
    """Multiplications in a batch of this shape, in the unit of `breadth`. Measured times follow it (docs/performance.md)."""
    rows, tokens = input_ids.shape
    return rows * tokens * (breadth + tokens)


def breadth(model: PreTrainedModel) -> float:
    """Multiplications per token in the layers' matrices, by those of attention per token and token seen."""
    config = model.config.get_text_config()
    matrices: int = model.base_model.num_parameters() - model.get_input_embeddings().weight.numel()
    return matrices / (2 * int(config.hidden_size) * int(config.num_hidden_layers))


def sharing(folder: RunFolder, model: PreTrainedModel, max_length: int) -> float | None:
    """The model's `breadth` if it computes packed rows as it computes plain ones; else None, and a note says why."""
    reason = _unfit(model, max_length)
    if reason:
        folder.note(f"Prompts are not shared among the completions of a ranking: {reason}.")
        return None
    return breadth(model)


def _unfit(model: PreTrainedModel, max_length: int) -> str:
    config = model.config.get_text_config()
    if config._attn_implementation != "sdpa":
        return f"the model's attention is {config._attn_implementation}, which takes no mask of its own"
    kinds = set(getattr(config, "layer_types", None) or ["full_attention", "sliding_attention"])
    window = getattr(config, "sliding_window", None) if "sliding_attention" in kinds else None
    if window and window < max_length:
        return f"the model's attention looks back over {window} tokens alone"
    if kinds - {"full_attention", "sliding_attention"}:
        return f"the model has layers of the kind {', '.join(sorted(kinds))}"
    try:
        difference = probe(model)
    except Exception as error:  # whatever a model makes of a mask that it does not know
        return f"the model cannot compute packed rows ({type(error).__name__})"
    return "" if difference < TOLERANCE else "the model computes packed rows differently"


@torch.no_grad()
def probe(model: PreTrainedModel) -> float:
    """How far the last hidden states of a few packed completions are from those of the same completions in rows of their own,
    relative to their size."""
    was_training = model.training
    model.eval()
    vocabulary = model.get_input_embeddings().weight.shape[0]
    text = lambda start, length: [(7 * at + start) % vocabulary for at in range(length)]  # noqa: E731
    rankings: list[dict[str, Any]] = [
        {"ids": [text(1, length) + text(length, tail) for tail in (2, 5, 3)], "prompt_length": length}
        for length in (9, 4)
    ]
    batch = {name: value.to(model.device) for name, value in pack(rankings, pad_token_id=-1).items()}
    batch["input_ids"].clamp_(min=0)
    packed = model.base_model(**model_inputs(batch), use_cache=False).last_hidden_state[batch["row"], batch["end"]]
    alone = torch.stack(
        [
            model.base_model(input_ids=torch.tensor([ids], device=model.device), use_cache=False).last_hidden_state[
                0, -1
            ]
            for ranking in rankings
            for ids in ranking["ids"]
        ]
    )
    model.train(was_training)
    difference: float = ((packed - alone).norm() / alone.norm()).item()
    return difference
