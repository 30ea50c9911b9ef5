"""What a reward model and a language model are worth, measured on what was held out.

    python -m training.recipes.evaluate RUN_DIR

Reads data/prompts.jsonl, data/rankings.parquet and data/tags.jsonl as far as they are there, and measures what the run's checkpoints allow:

- reward model and rankings: how often it orders pairs as people did, by tag and by number of completions; its calibration
- policy, with reference answers: how often the greedy answer is right; the same for the baseline
- policy and baseline, with a reward model or a judge: who wins how often, also at equal length
- policy, with reference answers or a reward model: what the best, the majority and any of n samples bring

Models are loaded one after another. What they give is appended to files line by line, so that a killed run goes on where it was.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from training.recipes.arguments import EvaluateArguments
from training.recipes.arguments.base import _
from training.recipes.data import as_text, read_rankings
from training.recipes.evaluation import judging, preference, report
from training.recipes.evaluation.report import Answered, Drawn
from training.recipes.evaluation.stages import Row, Stages, at_need
from training.recipes.generate import batch_seed, load_sampler, read_prompts
from training.recipes.rewards import read_completion
from training.recipes.rewards.accuracy import MathVerifier
from training.recipes.rewards.judges import Judge, load_judge
from training.recipes.rewards.reward_model import RewardModel
from training.recipes.rewards.reward_model import load as load_scorer
from training.recipes.run_folder import Messages, RunFailed, RunFolder, main
from training.recipes.sampling import Sampled, Sampler, Settings

SCORED_AT_ONCE, JUDGED_AT_ONCE = 64, 8  # items between two saves
SIDES = ("policy", "baseline")


@dataclass(frozen=True)
class Question:
    """A prompt to answer, `steps` times."""

    key: str
    prompt: Messages
    reference: str
    tags: Sequence[str]
    steps: int = 1


@dataclass(frozen=True)
class Texts:
    """Completions of one prompt, to be scored."""

    key: str
    prompt: Messages
    texts: Sequence[str] = field(repr=False)

    @property
    def steps(self) -> int:
        return len(self.texts)


@dataclass(frozen=True)
class Compared:
    """Two answers to one prompt, to be judged in both orders."""

    key: str
    pair: judging.Pair
    steps: int = 2


def evaluate(folder: RunFolder, arguments: EvaluateArguments) -> None:
    # Data: rankings for the reward model, prompts for the policies
    has = folder.inputs.keys()
    rankings = held_out_rankings(folder, arguments) if "reward_model" in has else []
    questions = held_out_questions(folder, arguments) if "policy" in has else []
    compares = "baseline" in has and bool(questions)
    judges = compares and (arguments.use_judge or "judge" in has)
    k = arguments.num_generations if arguments.num_generations > 1 else 0
    if not ("reward_model" in has or any(one.reference for one in questions)):
        k = 0
    if not rankings and not questions:
        raise RunFailed(
            "no_data", "There is nothing to measure: no held-out ranking for a reward model, no held-out prompt."
        )
    written = len(questions) * (1 + k + compares)
    scored = written * ("reward_model" in has) + sum(len(row["completions"]) for row in rankings)
    stages = Stages(folder, written + scored + 2 * len(questions) * judges)

    # Policies: a greedy answer to each prompt, and samples
    samples: dict[str, Row] = {}
    with at_need(lambda: load_sampler(folder, arguments)) as sampler:
        answers = {"policy": answer(stages, "policy", _("The language model answers"), questions, sampler, arguments)}
        if k:
            drawing = [replace(one, steps=k) for one in questions]
            samples = answer(stages, "samples", _("The language model is sampled"), drawing, sampler, arguments)
    if compares:
        with at_need(lambda: load_sampler(folder, arguments, "baseline")) as sampler:
            answers["baseline"] = answer(
                stages, "baseline", _("The other model answers"), questions, sampler, arguments
            )

    # Reward model: the rankings' completions, and what the policies wrote
    items = [
        Texts(f"ranking {row['ranking']}", row["prompt"], [as_text(one) for one in row["completions"]])
        for row in rankings
    ]
    for name, rows in {**answers, "samples": samples}.items():
        items += [
            Texts(f"{name} {one.key}", one.prompt, [text["text"] for text in rows[one.key]["texts"]])
            for one in questions
            if one.key in rows
        ]
    scores: dict[str, Row] = {}
    if "reward_model" in has:
        with at_need(lambda: load_scorer(folder)) as scorer:
            label = _("The reward model scores")
            scores = stages.run("scores", label, items, SCORED_AT_ONCE, lambda batch, _start: score(scorer(), batch))

    # Judge: each pair of greedy answers in both orders
    verdicts: dict[str, Row] = {}
    if judges:
        pairs = [_pair(one, *(answers[who][one.key]["texts"][0]["text"] for who in SIDES)) for one in questions]
        with at_need(lambda: load_judge(folder)) as judge:
            label = _("The judge compares")
            verdicts = stages.run(
                "verdicts", label, pairs, JUDGED_AT_ONCE, lambda batch, _start: compare(judge(), batch, arguments)
            )

    # Check against the reference answers, and put together
    stages.tell(_("The answers are checked"))
    verifier = MathVerifier()
    sides = {
        who: [_answered(one, rows[one.key]["texts"][0], scores.get(f"{who} {one.key}"), verifier) for one in questions]
        for who, rows in answers.items()
        if rows
    }
    drawn = [
        _drawn(one, samples[one.key]["texts"], scores.get(f"samples {one.key}"), verifier) for one in questions if k
    ]
    verifier.close()
    evaluation = {
        "split": arguments.split,
        "agreement": _agreement(rankings, scores),
        **_compare(folder, sides, [verdicts[one.key]["verdicts"] for one in questions] if judges else []),
        "spending": report.measure_spending(drawn) if drawn else None,
    }

    # Save
    metrics = report.headline(evaluation)
    folder.event("metrics", step=stages.total, metrics=metrics)
    folder.save_result(metrics, evaluation=evaluation)


def held_out_rankings(folder: RunFolder, arguments: EvaluateArguments) -> list[Row]:
    """The rankings on the chosen side that order anything, each with its prompt's tags."""
    if not (folder.data / "rankings.parquet").is_file():
        return []
    tags = read_tags(folder)
    rows = [
        {**row, "tags": tags.get(row["prompt_id"], [])}
        for row in read_rankings(folder)
        if row["verdict"] == "ranked" and len(set(row["ranks"])) > 1 and arguments.split in ("all", row["split"])
    ]
    if arguments.prompt_tag:
        rows = [row for row in rows if arguments.prompt_tag in row["tags"]]
    if not rows:
        folder.note(
            "The dataset version holds no such ranking that orders anything: the reward model is not compared with people."
        )
    return rows


def read_tags(folder: RunFolder) -> dict[str, list[str]]:
    """The tags of the dataset's prompts by `prompt_id`, as the worker lays them: the Parquet files have none."""
    file = folder.data / "tags.jsonl"
    if not file.is_file():
        return {}
    rows = map(json.loads, file.open("rb"))
    return {row["prompt_id"]: row["tags"] for row in rows}


def held_out_questions(folder: RunFolder, arguments: EvaluateArguments) -> list[Question]:
    file = folder.data / "prompts.jsonl"
    rows = read_prompts(folder) if file.is_file() and file.stat().st_size else []
    rows = [row for row in rows if arguments.split in ("all", row["split"])][: arguments.num_prompts]
    if not rows:
        folder.note("No such prompt is held out: the language model is not asked anything.")
    return [Question(str(row["prompt_id"]), row["prompt"], row["answer"].strip(), row["tags"]) for row in rows]


def answer(
    stages: Stages, name: str, label: str, questions: Sequence[Question], sampler: Any, arguments: EvaluateArguments
) -> dict[str, Row]:
    """{"texts": [{"text", "tokens", "stopped"}]} by question: greedy where it is asked once, else sampled."""

    def work(batch: list[Question], start: int) -> list[Row]:
        once = batch[0].steps == 1
        settings = Settings(
            num_generations=batch[0].steps,
            temperature=0 if once else arguments.temperature,
            top_p=arguments.top_p,
            max_new_tokens=arguments.max_completion_length,
            # The same in every run, so that checkpoints differ by themselves and not by their luck.
            seed=batch_seed(arguments.seed, 0, start),
        )
        chosen: Sampler = sampler()
        written: list[list[Sampled]] = chosen([one.prompt for one in batch], settings)
        return [
            {"texts": [{"text": one.text, "tokens": one.tokens, "stopped": one.stopped} for one in texts]}
            for texts in written
        ]

    steps = questions[0].steps if questions else 1
    return stages.run(name, label, questions, max(1, arguments.batch_size // steps), work)


def score(scorer: RewardModel, batch: list[Texts]) -> list[Row]:
    prompts = [one.prompt for one in batch for _text in one.texts]
    flat = iter(scorer.score(prompts, [text for one in batch for text in one.texts]))
    return [{"scores": [next(flat) for _text in one.texts]} for one in batch]


def compare(judge: Judge, batch: list[Compared], arguments: EvaluateArguments) -> list[Row]:
    pairs = [one.pair for one in batch]
    found = judging.compare(judge, pairs, arguments.judge_rubric, ignore_length=arguments.judge_ignores_length)
    return [{"verdicts": list(verdicts)} for verdicts in found]


def _pair(question: Question, policy: str, baseline: str) -> Compared:
    """What a judge sees of two completions: the answers without their reasoning."""
    sides = (read_completion(question.prompt, text).answer for text in (policy, baseline))
    return Compared(question.key, judging.Pair(question.prompt, question.reference, *sides))


def _answered(question: Question, written: Row, scored: Row | None, verifier: MathVerifier) -> Answered:
    return Answered(
        question.prompt,
        question.reference,
        question.tags,
        written["text"],
        read_completion(question.prompt, written["text"]).answer,
        written["tokens"],
        written["stopped"],
        right=_right(question, [written["text"]], verifier)[0],
        score=scored["scores"][0] if scored else None,
    )


def _drawn(question: Question, written: Sequence[Row], scored: Row | None, verifier: MathVerifier) -> Drawn:
    texts = [one["text"] for one in written]
    rights = [right for right in _right(question, texts, verifier) if right is not None]
    answers: list[int | None] = [None] * len(texts)
    if rights:
        parted = [read_completion(question.prompt, text).answer for text in texts]
        answers = report.classify(parted, verifier)
    tokens = [one["tokens"] for one in written]
    return Drawn(tokens, answers, rights or None, scored["scores"] if scored else None)


def _right(question: Question, texts: Sequence[str], verifier: MathVerifier) -> list[float | None]:
    """1 or 0 for each; None for all where the reference answer is missing or no mathematics."""
    if not question.reference:
        return [None] * len(texts)
    agreed = [verifier(question.reference, read_completion(question.prompt, text).answer) for text in texts]
    return [None if one is None else float(one) for one in agreed]


def _agreement(rankings: Sequence[Row], scores: dict[str, Row]) -> dict[str, Any] | None:
    scored = [
        preference.Scored(row["prompt_id"], row["ranks"], scores[f"ranking {row['ranking']}"]["scores"], row["tags"])
        for row in rankings
    ]
    return preference.measure(scored)


def _compare(
    folder: RunFolder, sides: dict[str, list[Answered]], verdicts: Sequence[Sequence[float | None]]
) -> dict[str, Any]:
    """{"answers", "difference", "wins", "samples"} of what the policy and, if there is one, the baseline wrote."""
    policy, baseline = sides.get("policy", []), sides.get("baseline")
    won: dict[str, list[float | None]] = {}
    if baseline:
        won["reward_model"] = [report.outcome_by_score(*pair) for pair in zip(policy, baseline, strict=True)]
    if verdicts:
        won["judge"] = [judging.outcome(pair) for pair in verdicts]
        if all(one is None for one in won["judge"]):
            folder.note("The judge gave no verdict that could be read, so its win rate is left out.")
    won = {by: outcomes for by, outcomes in won.items() if any(one is not None for one in outcomes)}
    measured = {by: report.measure_wins(by, outcomes, policy, baseline or []) for by, outcomes in won.items()}
    if "judge" in measured:
        measured["judge"] |= judging.places(verdicts)
    return {
        "answers": {who: report.measure_answers(side) for who, side in sides.items()},
        "difference": report.difference(policy, baseline) if baseline else None,
        "wins": list(measured.values()),
        "samples": report.pick_samples(policy, baseline, won),
    }


if __name__ == "__main__":
    main("evaluate", evaluate)
