"""Each built-in reward on tables of cases, through the interface that the methods use."""

import json
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.recipes.tiny import ROOT, finish, make_run, planted_ranking
from training.recipes.arguments import ScoringArguments
from training.recipes.arguments.rewards import REWARDS
from training.recipes.rewards import make_rewards, read_completion, weighted_sum
from training.recipes.rewards.accuracy import MathVerifier
from training.recipes.rewards.language import identifier
from training.recipes.run_folder import RunFailed, RunFolder

NOWHERE = Path("/nowhere")
QUESTION = [{"role": "user", "content": "How much is a half of thirty-six?"}]


def rewarded(name, texts, *, reference="", prompt=QUESTION, tokens=10, finished=True, folder=None, **arguments):
    """What the reward says of each text."""
    completions = [
        read_completion(prompt, text, reference=reference, tokens=tokens, finished=finished) for text in texts
    ]
    settings = ScoringArguments(rewards={name: 1.0}, **arguments)
    return make_rewards(folder or RunFolder(NOWHERE, {}), {name: 1.0}, settings)[name](completions)


EQUAL = [
    ("0.5", r"\frac{1}{2}"),
    ("0.5", r"$\frac12$"),
    ("0.5", "50 %"),
    ("0.5", r"\boxed{50\%}"),
    ("50%", "1/2"),
    (r"\dfrac{1}{2}", ".5"),
    ("18", r"\boxed{18}"),
    ("18", "Nine and nine.\n#### 18"),
    ("18", "#### $18\nI hope this helps, 3 times over!"),
    ("18", "first 5, then <answer>18</answer>"),
    ("18", "<answer>5</answer> no: <answer> 18 </answer> 7"),
    ("18", "<think>It might be 5.</think>It is 18."),
    ("18", "So the answer is **18**."),
    ("18", r"So it makes \$18.00"),
    ("18", "\\[\nx = 18\n\\]"),
    ("18", "18 dollars"),
    ("18", "A: 18"),
    ("18 eggs", "18"),
    ("1234", "1,234"),
    ("1,234", r"\boxed{1{,}234}"),
    ("70000", "$70,000"),
    ("20", "20 m^2"),
    ("-3", "−3"),
    ("1000", "1e3"),
    ("5500", "5.5 x 10^3"),
    ("x+1", "1+x"),
    ("x^2", "x**2"),
    ("2", r"\sqrt{4}"),
    ("2", "x = 2"),
    (r"\pi/2", r"\frac{\pi}{2}"),
    (r"\{1,2\}", r"\{2,1\}"),
    ("(1,2)", r"\boxed{(1, 2)}"),
    ("12:30", "at 12:30"),
    ("Janet has <<9*2=18>>18 dollars.\n#### 18", "18"),
]
DIFFERENT = [
    ("18", "81"),
    ("18", "It is not known."),
    ("18", ""),
    ("18", "18 at first, but then 17"),
    ("18", "<think>18"),
    ("-3", "3"),
    ("0.5", "50"),
    ("1/3", "0.33"),
    ("x+1", "x+2"),
    ("(1,2)", "(2,1)"),
    ("12:30", "12:45"),
    ("18", r"\boxed{"),
    ("18", r"\boxed{\frac{1}{"),
    ("18", "9^9^9^9^9^9"),
    ("18", "$((((((((((" * 50),
    ("18", "?" * 100_000),
    ("18", "\ud800\x00\u2028"),
]


def test_accuracy_agrees_with_mathematics_however_it_is_written():
    verifier = MathVerifier(seconds=0.7)
    for wanted, pairs in ((1.0, EQUAL), (0.0, DIFFERENT)):
        for reference, text in pairs:
            completion = read_completion(QUESTION, text, reference=reference)
            assert verifier(reference, completion.answer) == bool(wanted), (reference, text)
    verifier.close()


def test_accuracy_says_nothing_without_a_mathematical_reference():
    assert rewarded("accuracy", ["18", "19"], reference="18") == [1.0, 0.0]
    assert rewarded("accuracy", ["18"], reference=" ") == [None]
    assert rewarded("accuracy", ["Paris"], reference="Paris") == [None]


def test_accuracy_goes_on_after_an_expression_without_end_and_in_many_threads():
    verifier = MathVerifier(seconds=0.3)
    assert verifier("18", "99999^(99999^9999)") is False
    with ThreadPoolExecutor(8) as pool:
        told = list(pool.map(lambda number: verifier("18", str(number)), range(10, 26)))
    assert told == [number == 18 for number in range(10, 26)]
    assert threading.current_thread() is threading.main_thread()
    verifier.close()


GOOD = "<think>Nine and nine.</think><answer>18</answer>"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (GOOD, 1),
        (" <think>\nNine\n</think>\n\n<answer>\n18\n</answer>\n", 1),
        ("<think></think><answer>18</answer>", 1),
        ("<answer>18</answer><think>Nine.</think>", 0),
        ("<think>Nine.</think>", 0),
        ("<answer>18</answer>", 0),
        ("18", 0),
        ("", 0),
        ("<think>Nine.</think>18", 0),
        ("<think>Nine.</think>so <answer>18</answer>", 0),
        ("<think>Nine.</think><answer></answer>", 0),
        ("<think>Nine.</think><answer> \n </answer>", 0),
        (GOOD + " done", 0),
        ("Well: " + GOOD, 0),
        (GOOD + GOOD, 0),
        ("<think><think>Nine.</think></think><answer>18</answer>", 0),
        ("<think>a</think><think>b</think><answer>18</answer>", 0),
        ("<think>an <answer> early one</think><answer>18</answer>", 0),
        ("<THINK>Nine.</THINK><ANSWER>18</ANSWER>", 0),
        ("<think>Nine.</answer><answer>18</think>", 0),
    ],
)
def test_the_form_is_each_tag_once_in_order_and_nothing_after(text, wanted):
    assert rewarded("format", [text]) == [wanted]


@pytest.mark.parametrize("text", ["<answer>" * 20_000, "<think>" + "</think><answer>" * 10_000])
def test_thousands_of_tags_are_read_in_one_go(text):
    began = time.process_time()
    assert rewarded("format", [text]) == [0]
    assert rewarded("length", [text]) == [0]
    assert time.process_time() - began < 1


TAGS = st.sampled_from(["<think>", "</think>", "<answer>", "</answer>", "x", " "])


@given(st.lists(TAGS, max_size=8))
def test_a_text_in_form_has_each_tag_exactly_once(parts):
    text = "".join(parts)
    (value,) = rewarded("format", [text])
    if value:
        assert [part for part in parts if part.startswith("<")] == ["<think>", "</think>", "<answer>", "</answer>"]
        assert "x" in text.partition("<answer>")[2].partition("</answer>")[0]


@pytest.mark.parametrize(
    ("text", "code", "least", "most"),
    [
        ("First we compute the total of all eggs. Then we sell the rest of them.", "en", 1, 1),
        ("First we compute the total of all eggs. Then we sell the rest of them.", "de", 0, 0),
        ("Zuerst rechnen wir die Summe aus. Dann ist die Antwort 18.", "de", 1, 1),
        ("Zuerst rechnen wir die Summe aller Eier aus. Then we sell the rest of them every day.", "de", 0.3, 0.7),
        ("We compute the total. 首先我们计算所有鸡蛋的总和。", "en", 0.2, 0.6),
        ("We compute the total. 首先我们计算所有鸡蛋的总和。", "zh", 0.4, 0.8),
        ("Сначала посчитаем, сколько яиц осталось у неё.", "ru", 1, 1),
        ("まず、残りの卵の数を計算しましょう。", "ja", 1, 1),
        ("Primeiro calculamos quantos ovos ela tem depois do almoço.", "pt", 1, 1),
        (GOOD.replace("Nine and nine.", "Half of thirty-six is eighteen."), "en", 1, 1),
        ("We write ```python\nwährend = für(die_ganze_zeit)\n``` and then we run it again.", "en", 1, 1),
        (r"We know that \text{Summe} is $\sum_{i} x_i$ and so it must be eighteen.", "en", 1, 1),
    ],
)
def test_the_share_of_the_wanted_language(text, code, least, most):
    (share,) = rewarded("language", [text], reward_language=code)
    assert least <= share <= most


def test_without_a_wanted_language_it_is_the_prompts_own():
    german = [{"role": "user", "content": "Wie viel ist die Hälfte von sechsunddreißig?"}]
    texts = ["Das ist natürlich achtzehn.", "That is of course eighteen."]
    assert rewarded("language", texts, prompt=german) == [1, 0]
    assert rewarded("language", texts) == [0, 1]


def test_what_has_no_words_has_no_language():
    assert rewarded("language", ["16 - 3 = 13", "", "x = y", "```\nwhile True: pass\n```"]) == [None] * 4
    assert rewarded("language", ["It is eighteen."], prompt=[{"role": "user", "content": "36/2=?"}]) == [None]


@given(st.text(max_size=80))
def test_the_share_is_a_share_whatever_the_text(text):
    (share,) = rewarded("language", [text], reward_language="en")
    assert share is None or 0 <= share <= 1


def test_a_language_that_nobody_knows_is_refused_with_those_that_are_known():
    with pytest.raises(RunFailed, match=r"“qq” is no language that can be told. These are: .*en, "):
        rewarded("language", ["?"], reward_language="qq")
    assert {"en", "de", "zh", "fr", "es"} <= set(identifier().labels)


@pytest.mark.parametrize(
    ("tokens", "finished", "wanted"),
    [(0, True, 0), (80, True, 0), (81, True, -0.05), (90, True, -0.5), (100, True, -1), (90, False, -1), (101, True, -1)],
)  # fmt: skip
def test_length_falls_within_the_buffer(tokens, finished, wanted):
    values = rewarded("length", ["?"], tokens=tokens, finished=finished, max_completion_length=100, length_buffer=20)
    assert values == [pytest.approx(wanted)]


@given(st.integers(0, 300), st.integers(0, 300), st.integers(1, 200), st.integers(0, 400))
def test_a_longer_completion_is_never_rewarded_more(one, other, longest, buffer):
    shorter, longer = sorted((one, other))
    arguments = {"max_completion_length": longest, "length_buffer": buffer}
    (better,), (worse,) = (rewarded("length", ["?"], tokens=tokens, **arguments) for tokens in (shorter, longer))
    assert -1 <= worse <= better <= 0


@pytest.fixture(scope="session")
def trained_scorer(tmp_path_factory, tiny_model):
    """A reward model that likes exclamation marks."""
    run = make_run(
        tmp_path_factory.mktemp("scorer") / "run",
        "reward",
        tiny_model,
        rankings=[planted_ranking(number) for number in range(24)],
        max_steps=30,
        learning_rate=3e-3,
        per_device_train_batch_size=8,
    )
    finish(run)
    return run / "checkpoint"


def test_a_reward_model_scores_as_it_was_trained_alone_or_in_company(trained_scorer):
    folder = RunFolder(NOWHERE, {"reward_model": {"location": f"folder:{trained_scorer}"}})
    texts = ["oak elm", "oak elm!", "oak elm!!!", "a much longer answer that goes on for quite a while!!!", ""]
    together = rewarded("reward_model", texts, folder=folder)
    alone = [rewarded("reward_model", [text], folder=folder)[0] for text in texts]
    assert together == pytest.approx(alone, abs=1e-4)
    assert together[2] > together[1] > together[0]


def test_a_run_whose_rewards_lack_their_model_or_do_not_exist_says_so():
    for name, said in (
        ("reward_model", "the run has none"),
        ("judge", "There is no judge"),
        ("charm", "no reward “charm”"),
    ):
        with pytest.raises(RunFailed, match=said):
            rewarded(name, ["?"])


def test_each_built_in_reward_is_a_module_and_has_a_label():
    for name, (label, about) in REWARDS.items():
        assert __import__(f"training.recipes.rewards.{name}", fromlist=["make_reward"]).make_reward
        assert label
        assert about


def test_the_documented_reward_of_ones_own_is_imported_by_its_place_and_scores(tmp_path, monkeypatch):
    text = (ROOT / "docs/training.md").read_text()
    code = text.partition("```python\n# mypackage/rewards.py\n")[2].partition("```")[0]
    setting = re.search(r'REWARD_FUNCTIONS="(.+)"', text)
    assert setting
    (tmp_path / "mypackage").mkdir()
    (tmp_path / "mypackage/rewards.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    folder = RunFolder(NOWHERE, {}, reward_functions=dict([setting[1].split("=")]))
    assert rewarded("politeness", ["Yes, please.", "No."], folder=folder) == [1, 0]


def test_the_sum_takes_what_is_told_and_none_where_nothing_is():
    values: dict[str, list[float | None]] = {"a": [1.0, None, None], "b": [0.5, 2.0, None], "c": [9.0, 9.0, 9.0]}
    assert weighted_sum(values, {"a": 2.0, "b": 1.0, "c": 0.0}) == [2.5, 2.0, None]


def test_a_completion_is_parted_into_reasoning_and_answer():
    one = read_completion(QUESTION, json.loads('"<think>a</think> b <answer>c</answer>"'), reference="c", tokens=4)
    assert (one.reasoning, one.answer, one.reference, one.tokens, one.finished) == ("a", "c", "c", 4, True)
    assert read_completion(QUESTION, "<think>never ends").answer == ""
