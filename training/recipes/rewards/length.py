"""A soft penalty on overlong completions.

Paper: DAPO (arXiv:2503.14476), equation 13: with L the longest completion and B the buffer before it, 0 up to L − B tokens, then
falling evenly to −1 at L; −1 for a completion that the limit has cut.
"""

from collections.abc import Sequence

from training.recipes.arguments import ScoringArguments
from training.recipes.rewards import Reward, Sampled
from training.recipes.run_folder import RunFolder


def make_reward(folder: RunFolder, arguments: ScoringArguments) -> Reward:
    longest, buffer = arguments.max_completion_length, min(arguments.length_buffer, arguments.max_completion_length)

    def length(completions: Sequence[Sampled]) -> list[float | None]:
        return [overlong(one.tokens, one.finished, longest, buffer) for one in completions]

    return length


def overlong(tokens: int, finished: bool, longest: int, buffer: int) -> float:
    """From 0, within bounds, to −1, cut or over them. All lengths in tokens."""
    if not finished or tokens > longest:
        return -1.0
    over = tokens - (longest - buffer)
    return -over / buffer if over > 0 else 0.0
