"""Faithful samples of the shapes in which others publish preferences, written by hand."""

from typing import Any

from annotate.formats.importing.shapes import GivenRanking


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def said(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


HH = {
    "chosen": "\n\nHuman: Is salt bad?\n\nAssistant: For whom?\n\nHuman: For me.\n\nAssistant: In excess.",
    "rejected": "\n\nHuman: Is salt bad?\n\nAssistant: For whom?\n\nHuman: For me.\n\nAssistant: No idea.",
}
ULTRAFEEDBACK = {
    "source": "evol",
    "instruction": "Why is the sea salty?",
    "models": ["big", "small", "tiny"],
    "completions": [
        {
            "model": model,
            "principle": "honesty",
            "response": text,
            "overall_score": score,
            "fine-grained_score": 1.0,
            "annotations": {"helpfulness": {"Rating": rating, "Rationale": "…"}, "honesty": {"Rating": "N/A"}},
        }
        for model, text, score, rating in (
            ("big", "Rivers.", 8.5, "5"),
            ("small", "Rain.", "3", "1"),
            ("tiny", "?", 3, "2"),
        )
    ],
}
ARENA = {
    "question_id": "q1",
    "model_a": "alpha",
    "model_b": "beta",
    "winner": "model_b",
    "judge": "person-7",
    "conversation_a": [user("Hi"), said("Yo")],
    "conversation_b": [user("Hi"), said("Hello!")],
    "turn": 1,
    "language": "English",
    "tstamp": 1682351591.1322,
}
PAIRWISE = {
    "id": 5,
    "data": {"prompt": "Why?", "answer1": "So.", "answer2": "No.", "topic": "sea"},
    "annotations": [
        {
            "id": 71,
            "completed_by": {"id": 3, "email": "ann@example.org"},
            "was_cancelled": False,
            "created_at": "2026-01-31T12:00:00.5Z",
            "lead_time": 4.25,
            "result": [
                {"from_name": "c", "to_name": "a,b", "type": "pairwise", "value": {"selected": "right"}},
                {"from_name": "why", "to_name": "a", "type": "textarea", "value": {"text": ["Shorter."]}},
            ],
        },
        {"id": 72, "completed_by": 4, "was_cancelled": True, "result": []},
    ],
}
RANKER = {
    "id": 6,
    "data": {
        "prompt": "Why?",
        "items": [{"id": "m1", "title": "M1", "body": "a"}, {"id": "m2", "body": "b"}, {"id": "m3", "body": "c"}],
    },
    "annotations": [
        {"id": 1, "completed_by": 2, "result": [{"type": "ranker", "value": {"ranker": ["m2", "m3", "m1"]}}]}
    ],
}
NESTED = {
    "id": "r1",
    "fields": {"instruction": "Why?", "response_1": "a", "response_2": "b"},
    "metadata": {"topic": "sea"},
    "suggestions": {"ranking": {"value": ["response_1", "response_2"], "score": None, "agent": "llm"}},
    "responses": {
        "ranking": [
            {"value": [{"value": "response_2", "rank": 1}, {"value": "response_1", "rank": 2}], "user_id": "u1"},
            {"value": ["response_1", "response_2"], "user_id": "u2"},
        ],
        "clarity_1": [{"value": 4, "user_id": "u1"}],
        "clarity_2": [{"value": 5, "user_id": "u1"}],
        "why": [{"value": "Clearer.", "user_id": "u1"}],
    },
}
FLAT = {
    "prompt": "Why?",
    "reply_1": "a",
    "reply_2": "b",
    "reply-ranking": [
        {"user_id": "u1", "status": "submitted", "value": {"rank": [1, 1], "value": ["reply-1", "reply-2"]}},
        {"user_id": "u2", "status": "discarded", "value": None},
    ],
    "reply-ranking-suggestion": None,
    "reply-ranking-suggestion-metadata": {"type": None, "score": None, "agent": None},
    "external_id": "x7",
    "metadata": "{}",
}
PAIR = {"instruction": "Why?", "a": "So.", "b": "No."}
ONE_TO_TWO = [GivenRanking((1, 2))]

# (shape, row, prompt, completions with their sources, rankings)
CASES: list[tuple[str, dict[str, Any], Any, list[tuple[str, str]], list[GivenRanking]]] = [
    (
        "hh",
        HH,
        [user("Is salt bad?"), said("For whom?"), user("For me.")],
        [("In excess.", "imported"), ("No idea.", "imported")],
        ONE_TO_TWO,
    ),
    (
        "ultrafeedback",
        ULTRAFEEDBACK,
        [user("Why is the sea salty?")],
        [("Rivers.", "big"), ("Rain.", "small"), ("?", "tiny")],
        [GivenRanking((1, 2, 2), ratings=({"helpfulness": 5}, {"helpfulness": 1}, {"helpfulness": 2}))],
    ),
    (
        "scored-pairs",
        {
            "prompt": "Hi",
            "prompt_id": "p",
            "chosen": [user("Hi"), said("Hello!")],
            "rejected": [user("Hi"), said("Yo")],
            "messages": [user("Hi"), said("Hello!")],
            "score_chosen": 7.0,
            "score_rejected": 7.0,
        },
        [user("Hi")],
        [("Hello!", "imported"), ("Yo", "imported")],
        [GivenRanking((1, 1))],
    ),
    (
        "scored-pairs",
        {
            "source": "evol",
            "prompt": "Hi",
            "chosen": "Hello!",
            "chosen-rating": 4.5,
            "chosen-model": "m1",
            "rejected": "Yo",
            "rejected-rating": 2,
            "rejected-model": "m2",
        },
        [user("Hi")],
        [("Hello!", "m1"), ("Yo", "m2")],
        ONE_TO_TWO,
    ),
    (
        "scored-pairs",
        {
            "prompt": "Hi",
            "chosen": "a",
            "rejected": "b",
            "chosen_model": "m1",
            "rejected_model": "m2",
            "subset": "chat",
        },
        [user("Hi")],
        [("a", "m1"), ("b", "m2")],
        ONE_TO_TWO,
    ),
    (
        "scored-list",
        {"instruction": "Hi", "generations": ["a", "b", "c"], "ratings": [2, 5, 2], "model_names": ["x", "y", "z"]},
        [user("Hi")],
        [("a", "x"), ("b", "y"), ("c", "z")],
        [GivenRanking((2, 1, 2))],
    ),
    (
        "helpsteer-preference",
        {
            "domain": "stem",
            "context": [user("Hi")],
            "response1": "Yo",
            "response2": "Hello!",
            "overall_preference": 2,
            "individual_preference": [
                {"score": 3, "reasoning": "Politer.", "feedback1": "", "feedback2": ""},
                {"score": 0, "reasoning": "Same.", "feedback1": "", "feedback2": ""},
            ],
        },
        [user("Hi")],
        [("Yo", "imported"), ("Hello!", "imported")],
        [GivenRanking((2, 1), comment="Politer."), GivenRanking((1, 1), comment="Same.")],
    ),
    (
        "helpsteer-preference",
        {
            "prompt": "Hi",
            "response_1": "Yo",
            "response_2": "H",
            "preference_strength": -1,
            "preference_statement": "Ok",
        },
        [user("Hi")],
        [("Yo", "imported"), ("H", "imported")],
        [GivenRanking((1, 2), comment="Ok")],
    ),
    (
        "argilla",
        NESTED,
        [user("Why?")],
        [("a", "imported"), ("b", "imported")],
        [
            GivenRanking((2, 1), annotator="u1", comment="Clearer.", ratings=({"clarity": 4}, {"clarity": 5})),
            GivenRanking((1, 2), annotator="u2"),
        ],
    ),
    (
        "argilla",
        {**NESTED, "responses": {}},
        [user("Why?")],
        [("a", "imported"), ("b", "imported")],
        [GivenRanking((1, 2), annotator="llm")],
    ),
    (
        "argilla",
        {
            "fields": {"prompt": "Why?", "response-1": "a", "response-2": "b"},
            "responses": [
                {
                    "user_id": "u1",
                    "status": "submitted",
                    "values": {
                        "order": {"value": [{"value": "response-2", "rank": 1}, {"value": "response-1", "rank": 2}]}
                    },
                },
                {"user_id": "u2", "status": "draft", "values": {"order": {"value": []}}},
            ],
        },
        [user("Why?")],
        [("a", "imported"), ("b", "imported")],
        [GivenRanking((2, 1), annotator="u1")],
    ),
    (
        "argilla",
        FLAT,
        [user("Why?")],
        [("a", "imported"), ("b", "imported")],
        [GivenRanking((1, 1), annotator="u1")],
    ),
    (
        "argilla",
        {
            "prompt": "Why?",
            "response_1": "a",
            "response_2": "b",
            "score_1.responses": [2],
            "score_1.responses.users": ["u9"],
            "score_1.responses.status": ["submitted"],
            "score_2.responses": [5],
            "score_2.responses.users": ["u9"],
            "score_2.responses.status": ["submitted"],
        },
        [user("Why?")],
        [("a", "imported"), ("b", "imported")],
        [GivenRanking((2, 1), annotator="u9", ratings=({"score": 2}, {"score": 5}))],
    ),
    (
        "label-studio",
        RANKER,
        [user("Why?")],
        [("a", "imported"), ("b", "imported"), ("c", "imported")],
        [GivenRanking((3, 1, 2), annotator="2", original="1")],
    ),
    (
        "label-studio",
        {
            **RANKER,
            "annotations": [
                {"id": 1, "result": [{"type": "ranker", "value": {"ranker": {"good": ["m3"], "bad": ["m1"]}}}]}
            ],
        },
        [user("Why?")],
        [("a", "imported"), ("b", "imported"), ("c", "imported")],
        [GivenRanking((2, 3, 1), original="1")],
    ),
    (
        "label-studio",
        {"id": 5, "prompt": "Why?", "answer1": "So.", "answer2": "No.", "comparison": "left", "annotator": 3}
        | {"annotation_id": 9, "created_at": None, "updated_at": None, "lead_time": 2},
        [user("Why?")],
        [("So.", "imported"), ("No.", "imported")],
        [GivenRanking((1, 2), annotator="3", original="9", seconds=2.0)],
    ),
    (
        "openai-preference",
        {
            "input": {"messages": [{"role": "developer", "content": "Be kind."}, user("Hi")], "tools": []},
            "preferred_output": [said("Hello!")],
            "non_preferred_output": [said("Yo")],
        },
        [{"role": "system", "content": "Be kind."}, user("Hi")],
        [("Hello!", "imported"), ("Yo", "imported")],
        ONE_TO_TWO,
    ),
    (
        "sharegpt",
        {
            "id": "s1",
            "conversations": [
                {"from": "system", "value": "Be kind."},
                {"from": "human", "value": "Hi"},
                {"from": "gpt", "value": "Hello!"},
            ],
        },
        [{"role": "system", "content": "Be kind."}, user("Hi")],
        [("Hello!", "imported")],
        [],
    ),
    (
        "sharegpt",
        {
            "conversations": [{"from": "human", "value": "Hi"}],
            "chosen": {"from": "gpt", "value": "Hello!"},
            "rejected": {"from": "gpt", "value": "Yo"},
        },
        [user("Hi")],
        [("Hello!", "imported"), ("Yo", "imported")],
        ONE_TO_TWO,
    ),
    (
        "chat",
        {
            "messages": [
                user("Hi"),
                said("Yo"),
                {"role": "user", "content": [{"type": "text", "text": "Hm?"}]},
                said("Ok"),
            ]
        },
        [user("Hi"), said("Yo"), user("Hm?")],
        [("Ok", "imported")],
        [],
    ),
    (
        "alpaca",
        {"instruction": "Add.", "input": "1 1", "output": "2"},
        [user("Add.\n\n1 1")],
        [("2", "imported")],
        [],
    ),
    (
        "stepwise",
        {"prompt": "Add 1, 1 and 1.", "completions": ["1 + 1 = 2", "2 + 1 = 4"], "labels": [True, False]},
        [user("Add 1, 1 and 1.")],
        [("1 + 1 = 2\n\n2 + 1 = 4", "imported")],
        [],
    ),
    ("unpaired", {"prompt": "Hi", "completion": "Yo", "label": False}, [user("Hi")], [("Yo", "imported")], []),
    ("text", {"text": HH["chosen"]}, None, [("In excess.", "imported")], []),
    ("", {"prompt": "Hi"}, [user("Hi")], [], []),
    ("", {"prompt": [user("Hi")], "completion": [said("Yo")]}, [user("Hi")], [("Yo", "imported")], []),
    (
        "",
        {"prompt": "Hi", "chosen": "a", "rejected": "b"},
        [user("Hi")],
        [("a", "imported"), ("b", "imported")],
        ONE_TO_TWO,
    ),
]
