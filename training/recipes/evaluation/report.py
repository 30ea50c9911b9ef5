"""What an evaluation found, put together from what models wrote and how it was scored. docs/training.md, 'Evaluation', has the shape."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import numpy as np

from .intervals import Interval, means, rounded, share
from .spending import any_of, best_of, majority_of, steps_to
from .winning import win_rate

SHOWN_SAMPLES = 12
SHOWN_CHARACTERS = 4000


@dataclass(frozen=True)
class Answered:
    """One prompt, and what came of it. `answer` is `text` without its reasoning. `right` is None where the answer cannot be checked, `score` where no reward model is there."""

    prompt: list[dict[str, str]]
    reference: str
    tags: Sequence[str]
    text: str
    answer: str
    tokens: int
    finished: bool
    right: float | None = None
    score: float | None = None


@dataclass(frozen=True)
class Drawn:
    """The k samples of one prompt. `answers` are classes of equal answers, None for none; `right` is None where they cannot be checked."""

    tokens: Sequence[int]
    answers: Sequence[int | None]
    right: Sequence[float] | None
    scores: Sequence[float] | None


def measure_answers(answered: Sequence[Answered]) -> dict[str, Any]:
    """{"accuracy": Interval or None where nothing can be checked, "tags": [{"tag", "accuracy"}], "tokens", "finished", "prompts"}."""
    by_tag: dict[str, list[float | None]] = {}
    for one in answered:
        for tag in one.tags:
            by_tag.setdefault(tag, []).append(one.right)
    tags = ((tag, right_share(by_tag[tag])) for tag in sorted(by_tag))
    return {
        "accuracy": right_share(one.right for one in answered),
        "tags": [{"tag": tag, "accuracy": found} for tag, found in tags if found],
        "tokens": rounded(np.mean([one.tokens for one in answered])),
        "finished": rounded(np.mean([one.finished for one in answered])),
        "prompts": len(answered),
    }


def right_share(rights: Iterable[float | None]) -> Interval | None:
    told = [right for right in rights if right is not None]
    return share(sum(told) / len(told), len(told)) if told else None


def difference(policy: Sequence[Answered], baseline: Sequence[Answered]) -> Interval | None:
    """By how much the policy is right more often, over the prompts that both were asked."""
    pairs = [(one.right, other.right) for one, other in zip(policy, baseline, strict=True)]
    told = [[one - other] for one, other in pairs if one is not None and other is not None]
    return means(np.array(told))[0] if told else None


def outcome_by_score(policy: Answered, baseline: Answered) -> float | None:
    """1 where the policy's answer scores higher, 0 where lower; the same words are a tie, whatever rounding makes of their scores."""
    if policy.score is None or baseline.score is None:
        return None
    return 0.5 if policy.text == baseline.text else 0.5 + 0.5 * float(np.sign(policy.score - baseline.score))


def measure_wins(
    by: str, outcomes: Sequence[float | None], policy: Sequence[Answered], baseline: Sequence[Answered]
) -> dict[str, Any]:
    """winning.win_rate over the prompts that were decided, at least one; `undecided` counts the others."""
    told = {at: outcome for at, outcome in enumerate(outcomes) if outcome is not None}
    # A judge sees the answers without their reasoning.
    seen = attrgetter("answer" if by == "judge" else "text")
    lengths = ([len(seen(side[at])) for at in told] for side in (policy, baseline))
    return {"by": by, **win_rate(list(told.values()), *lengths), "undecided": len(outcomes) - len(told)}


def measure_spending(drawn: Sequence[Drawn]) -> dict[str, Any]:
    """{"samples": k, "prompts": with answers that can be checked, "points": [{"n", "tokens", "best", "majority", "any", "reward"}]}.

    Each figure is an Interval over prompts or None; `tokens` is what n samples of a prompt take on average.
    """
    checked = [one for one in drawn if one.right is not None]
    scored = all(one.scores is not None for one in drawn)
    k = len(drawn[0].tokens)
    tokens = float(np.mean([one.tokens for one in checked or drawn]))
    points = []
    for n in steps_to(k):
        point: dict[str, Any] = {"n": n, "tokens": rounded(n * tokens, 1)}
        figures: dict[str, list[float]] = {}
        if checked:
            figures["majority"] = [majority_of(one.answers, one.right or (), n) for one in checked]
            figures["any"] = [any_of(one.right or (), n) for one in checked]
            if scored:
                figures["best"] = [best_of(one.right or (), one.scores or (), n) for one in checked]
        point |= dict.fromkeys(("best", "majority", "any"), None)
        if figures:
            point |= dict(zip(figures, means(np.array(list(figures.values())).T), strict=True))
        rewards = [[best_of(one.scores or (), one.scores or (), n)] for one in drawn] if scored else []
        point["reward"] = means(np.array(rewards))[0] if rewards else None
        points.append(point)
    return {"samples": k, "prompts": len(checked), "points": points}


def classify(answers: Sequence[str], same: Callable[[str, str], bool | None]) -> list[int | None]:
    """The class of each answer: equal ones share a number. `same` gives None where its first argument holds no answer."""
    firsts: list[str] = []
    known: dict[str, int | None] = {}

    def place(answer: str) -> int | None:
        if not answer or same(answer, answer) is None:
            return None
        at = next((at for at, first in enumerate(firsts) if same(first, answer)), len(firsts))
        if at == len(firsts):
            firsts.append(answer)
        return at

    for answer in answers:
        if answer not in known:
            known[answer] = place(answer)
    return [known[answer] for answer in answers]


def pick_samples(
    policy: Sequence[Answered], baseline: Sequence[Answered] | None, won: Mapping[str, Sequence[float | None]]
) -> list[dict[str, Any]]:
    """Some prompts with their answers, of every outcome as many as there are; by whom each was decided, and how."""
    decided = next(iter(won.values()), None) or [one.right for one in policy]
    groups: dict[float | None, list[int]] = {}
    for at, outcome in enumerate(decided):
        groups.setdefault(outcome, []).append(at)
    rounds = max((len(group) for group in groups.values()), default=0)
    turns = (group[turn] for turn in range(rounds) for group in groups.values() if turn < len(group))
    chosen = sorted(list(turns)[:SHOWN_SAMPLES])
    return [
        {
            "prompt": [{**message, "content": shown(message["content"])} for message in policy[at].prompt],
            "reference": shown(policy[at].reference),
            "policy": _side(policy[at]),
            "baseline": _side(baseline[at]) if baseline else None,
            "won": {by: outcomes[at] for by, outcomes in won.items()},
        }
        for at in chosen
    ]


def _side(one: Answered) -> dict[str, Any]:
    score = None if one.score is None else rounded(one.score)
    return {"text": shown(one.text), "right": one.right, "score": score, "tokens": one.tokens, "finished": one.finished}


def shown(text: str) -> str:
    """Cut to what a page shows, and without NUL, which Postgres does not hold."""
    cut = text[:SHOWN_CHARACTERS].replace("\0", "\ufffd")
    return cut + " …" if len(text) > SHOWN_CHARACTERS else cut


def headline(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """The figures that decide, flat: NAME, NAME_low, NAME_high."""
    found: dict[str, Interval | None] = {}
    if agreement := evaluation["agreement"]:
        found["reward_accuracy"] = agreement["accuracy"]
    for wins in evaluation["wins"]:
        found[f"win_rate_{wins['by']}"] = wins["rate"]
        found[f"win_rate_{wins['by']}_controlled"] = wins["controlled"]
    for who, answers in evaluation["answers"].items():
        found["answer_accuracy" if who == "policy" else "baseline_answer_accuracy"] = answers["accuracy"]
    if evaluation["spending"]:
        last = evaluation["spending"]["points"][-1]
        found |= {"best_of_n_accuracy": last["best"], "majority_of_n_accuracy": last["majority"]}
    metrics: dict[str, Any] = {}
    for name, figure in found.items():
        if figure and figure["value"] is not None:
            ends = {f"{name}_{end}": figure[end] for end in ("low", "high") if figure[end] is not None}
            metrics |= {name: figure["value"], **ends}
    if agreement:
        metrics |= {"reward_pairs": agreement["pairs"], "calibration_error": agreement["calibration"]["error"]}
    if evaluation["spending"]:
        metrics["samples_per_prompt"] = evaluation["spending"]["samples"]
    return metrics
