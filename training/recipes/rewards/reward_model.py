"""The score of a reward model: mean 0 and standard deviation 1 on the completions that it was trained on.

Shapes: N completions, T tokens.
"""

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from training.recipes.arguments import ScoringArguments
from training.recipes.data import encode
from training.recipes.models import load_reward_model, load_tokenizer
from training.recipes.rewards import Reward, Sampled
from training.recipes.run_folder import Messages, RunFailed, RunFolder

BATCH_TOKENS = 8192


class RewardModel:
    """Scores completions in batches of similar length, without gradients. It sees what `reward` trained on: the whole dialogue."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        self.model, self.tokenizer = model.eval().requires_grad_(False), tokenizer
        # The head reads the last token that is no padding, as it did in training.
        model.config.pad_token_id = tokenizer.pad_token_id

    @torch.no_grad()
    def score(self, prompts: Sequence[Messages], completions: Sequence[str]) -> list[float]:
        """One score per completion, in order. A prompt too long for the model's positions loses its beginning."""
        ids = [
            self._fit(encode(self.tokenizer, prompt, [text])["ids"][0])
            for prompt, text in zip(prompts, completions, strict=True)
        ]
        scores = [0.0] * len(ids)
        for batch in batches([len(one) for one in ids]):
            for at, score in zip(batch, self._scores([ids[at] for at in batch]), strict=True):
                scores[at] = score
        return scores

    def _scores(self, ids: list[list[int]]) -> list[float]:
        longest = max(map(len, ids))
        padding = self.tokenizer.pad_token_id
        ids_NT = torch.tensor([[*one, *[padding] * (longest - len(one))] for one in ids], device=self.model.device)
        mask_NT = torch.tensor([[1] * len(one) + [0] * (longest - len(one)) for one in ids], device=self.model.device)
        scores: list[float] = (
            self.model(input_ids=ids_NT, attention_mask=mask_NT, use_cache=False).logits.squeeze(-1).float().tolist()
        )
        return scores

    def _fit(self, ids: list[int]) -> list[int]:
        longest = getattr(self.model.config, "max_position_embeddings", None) or len(ids)
        return ids[-longest:]


def batches(lengths: list[int]) -> list[list[int]]:
    """Places grouped by length, so that little of a batch is padding, each of at most BATCH_TOKENS tokens (or one completion)."""
    made: list[list[int]] = []
    for at in sorted(range(len(lengths)), key=lambda place: lengths[place], reverse=True):
        if made and (len(made[-1]) + 1) * lengths[made[-1][0]] <= BATCH_TOKENS:
            made[-1].append(at)
        else:
            made.append([at])
    return made


def load(folder: RunFolder, role: str = "reward_model") -> RewardModel:
    """The reward model that plays `role` in the run. Raises RunFailed when there is none."""
    if role not in folder.inputs:
        raise RunFailed("missing_model", "The rewards name a reward model, but the run has none.")
    model = load_reward_model(folder.model(role)).to("cuda" if torch.cuda.is_available() else "cpu")
    return RewardModel(model, load_tokenizer(folder, folder.model(role)))


def make_reward(folder: RunFolder, arguments: ScoringArguments) -> Reward:
    scorer = load(folder)

    def reward_model(completions: Sequence[Sampled]) -> list[float | None]:
        return [*scorer.score([one.prompt for one in completions], [one.completion for one in completions])]

    return reward_model
