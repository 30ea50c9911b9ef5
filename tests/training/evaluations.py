"""An evaluation as the recipe leaves it, of planted scores and answers: put together by the recipe's own functions."""

import random
from typing import Any


def planted_evaluation(prompts: int = 60, seed: int = 0) -> dict[str, Any]:
    """A reward model that is too sure of itself, a policy that is right more often than its baseline, and 16 samples a prompt."""
    from training.recipes.evaluation import report
    from training.recipes.evaluation.preference import Scored, measure

    choose = random.Random(seed)
    rankings = []
    for number in range(prompts):
        true = [choose.gauss(0, 1) for _ in range(2 + number % 3)]
        order = sorted(true, reverse=True)
        tags = [choose.choice(["maths", "poems"]), *(["hard"] if number % 5 == 0 else [])]
        scores = [4 * (value + choose.gauss(0, 0.8)) for value in true]
        rankings.append(Scored(f"prompt {number}", [order.index(value) + 1 for value in true], scores, tags))

    def side(chance: float, words: int) -> list[report.Answered]:
        answers = []
        for number in range(prompts):
            right = float(choose.random() < chance)
            text = f"It is {2 * number if right else 1}, <b>I think</b>. " + "Sure enough. " * choose.randrange(words)
            prompt = [{"role": "user", "content": f"What is {number} and {number}?"}]
            score = right + choose.gauss(0, 1) + 0.05 * len(text) / 13
            answers.append(
                report.Answered(prompt, str(2 * number), ["maths"], text, text, len(text) // 4, True, right, score)
            )
        return answers

    policy, baseline = side(0.8, 12), side(0.3, 5)
    by_score = [report.outcome_by_score(*pair) for pair in zip(policy, baseline, strict=True)]
    by_judge = [
        choose.choice([outcome, 0.5, None]) if number % 3 == 0 else outcome for number, outcome in enumerate(by_score)
    ]
    won = {"reward_model": by_score, "judge": by_judge}
    wins = [report.measure_wins(by, outcomes, policy, baseline) for by, outcomes in won.items()]
    wins[1] |= {"swayed": 7, "first": 0.61}
    drawn = []
    for _ in range(prompts):
        right = [float(choose.random() < 0.4) for _ in range(16)]
        answers = [0 if one else choose.randrange(1, 9) for one in right]
        scores = [1.5 * one + choose.gauss(0, 1) for one in right]
        drawn.append(report.Drawn([choose.randrange(20, 60) for _ in right], answers, right, scores))
    return {
        "split": "test",
        "agreement": measure(rankings),
        "answers": {"policy": report.measure_answers(policy), "baseline": report.measure_answers(baseline)},
        "difference": report.difference(policy, baseline),
        "wins": wins,
        "spending": report.measure_spending(drawn),
        "samples": report.pick_samples(policy, baseline, won),
    }


def headline_of(evaluation: dict[str, Any]) -> dict[str, Any]:
    from training.recipes.evaluation.report import headline

    return headline(evaluation)
