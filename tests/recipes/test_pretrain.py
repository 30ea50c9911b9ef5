"""Pre-training: what is left out of a folder of texts, and what is learned from the rest."""

import gzip
import json
import random
import unicodedata
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from tests.recipes.tiny import Row, curve, events, finish, make_run, planted_demonstration, result
from training.recipes.pretrain import train_tokenizer
from training.recipes.run_folder import RunFailed
from training.recipes.texts import clean, find_files, kept_texts, read_texts

NOUNS = ["fox", "dog", "cat", "owl", "hen", "pig", "cow", "rat", "bee", "ant"]
VERBS = ["sees", "likes", "finds", "hears", "follows"]
SMALL: Row = {
    "max_length": 64,
    "vocab_size": 320,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "per_device_train_batch_size": 16,
    "max_steps": 60,
    "eval_steps": 30,
    "save_steps": 30,
    "test_fraction": 0.1,
    "similarity_threshold": 1,
    "min_characters": 40,
}


def story(number: int) -> str:
    choose = random.Random(number)
    sentences = [
        f"The {choose.choice(NOUNS)} {choose.choice(VERBS)} the {choose.choice(NOUNS)}."
        for _ in range(choose.randint(8, 14))
    ]
    return " ".join(sentences)


@pytest.fixture
def texts(tmp_path):
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "a.txt").write_text("\n<|endoftext|>\n".join(story(number) for number in range(150)))
    with gzip.open(folder / "b.jsonl.gz", "wt") as file:
        file.writelines(json.dumps({"text": story(number)}) + "\n" for number in range(150, 300))
    (folder / "notes.pdf").write_bytes(b"not read")
    return folder


def kept(texts: list[str], **settings) -> tuple[list[str], Counter[str]]:
    counts: Counter[str] = Counter()
    return list(kept_texts(texts, **{"min_characters": 20, "threshold": 0.8, **settings}, counts=counts)), counts


def test_text_goes_in_and_a_base_that_can_be_taught_to_chat_comes_out(texts, tmp_path):
    run = make_run(tmp_path / "run", "pretrain", {}, text_folder=str(texts), learning_rate=3e-3, **SMALL)
    finish(run)

    loss = curve(run, "loss")
    assert loss[1] > 5.5  # 320 tokens, none known better than another: ln 320 = 5.8
    metrics = result(run)["metrics"]
    assert metrics["eval_loss"] < 2.2
    assert metrics["eval_perplexity"] < 9
    assert 0 < metrics["eval_bits_per_byte"] < 2
    assert {event["step"] for event in events(run, "sample")} == {30, 60}
    tokenizer = AutoTokenizer.from_pretrained(run / "checkpoint")
    said = "A fox, <|im_end|> naïve ☃ and\tmore"
    assert tokenizer.decode(tokenizer(said)["input_ids"]) == said
    assert not (run / "checkpoint/training_args.bin").exists()

    taught = make_run(
        tmp_path / "sft", "sft", run / "checkpoint", rankings=[],
        demonstrations=[planted_demonstration(number) for number in range(24)],
        train_on="demonstrations", max_steps=20, learning_rate=3e-3, per_device_train_batch_size=8, max_length=64,
    )  # fmt: skip
    finish(taught)
    assert curve(taught, "loss")[20] < 0.5 * curve(taught, "loss")[1]


def test_a_run_without_a_text_worth_learning_says_what_was_left_out(tmp_path):
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "a.md").write_text("short")
    run = make_run(tmp_path / "run", "pretrain", {}, text_folder=str(folder), **SMALL)
    finish(run, expect=1)
    assert events(run, "error")[0]["cause"] == "no_data"
    assert "1 of 1 texts were left out: too short." in events(run, "note")[0]["message"]


def test_each_text_is_left_out_for_one_stated_reason():
    good = story(1)
    texts = [
        good,
        good.upper() + "  ",  # equal but for case and white space
        good + " The end of it all.",
        "too short",
        "1 + 1 = 2; 2 + 2 = 4; 4 + 4 = 8; (8 * 8) / 8 == 8",
        "\n".join(["Subscribe to our newsletter"] * 8 + [story(2)]),
        story(3),
        "   ",
    ]
    left, counts = kept(texts)
    assert left == [good, story(3)]
    assert counts == {"read": 7, "kept": 2, "equal": 1, "similar": 1, "short": 1, "signs": 1, "repeated_lines": 1}
    assert kept(texts[:3], threshold=1)[1]["similar"] == 0


def test_broken_encodings_and_stray_characters_are_mended():
    assert clean("The MÃ¶bius strip\x00\x07  \r\n\r\n\r\n\r\nends\u200b here ") == "The Möbius strip\n\nends\u200b here"


@given(st.text(max_size=300))
def test_a_cleaned_text_has_no_control_characters_trailing_spaces_or_piles_of_lines(text):
    cleaned = clean(text)
    assert all(char in "\n\t" or unicodedata.category(char) not in ("Cc", "Cs") for char in cleaned)
    assert "\n\n\n" not in cleaned
    assert [line.rstrip() for line in cleaned.split("\n")] == cleaned.split("\n")
    assert cleaned.strip() == cleaned


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=80))
def test_the_tokenizer_writes_any_text_and_back(text):
    assert TOKENIZER.decode(TOKENIZER(text, add_special_tokens=False)["input_ids"]) == text


TOKENIZER = train_tokenizer(iter([story(1), story(2)]), 300, 64)
TOKENIZER.backend_tokenizer.encode_special_tokens = True


def test_files_are_named_when_they_cannot_be_read(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "fine"}\n{"body": "no text"}\n')
    with pytest.raises(RunFailed, match=r"a\.jsonl, line 2"):
        list(read_texts(tmp_path / "a.jsonl"))
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(b"some text")[:-9])
    with pytest.raises(RunFailed, match=r"b\.txt\.gz is damaged"):
        list(read_texts(tmp_path / "b.txt.gz"))
    (tmp_path / "c.parquet").write_bytes(b"PAR1 but not really PAR1")
    with pytest.raises(RunFailed, match=r"c\.parquet is damaged"):
        list(read_texts(tmp_path / "c.parquet"))


def test_links_that_lead_out_of_the_folder_are_not_followed(tmp_path):
    (tmp_path / "secret.txt").write_text("a secret")
    inside = tmp_path / "texts"
    inside.mkdir()
    (inside / "link.txt").symlink_to(tmp_path / "secret.txt")
    (inside / "own.txt").write_text("own")
    assert [path.name for path in find_files(inside)] == ["own.txt"]


def test_a_file_larger_than_a_text_may_be_is_read_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr("training.recipes.texts.MAX_CHARACTERS", 1000)
    monkeypatch.setattr("training.recipes.texts.READ_AT_ONCE", 512)
    (tmp_path / "one-line.txt").write_text("x" * 10_000)
    pieces = list(read_texts(tmp_path / "one-line.txt"))
    assert "".join(pieces) == "x" * 10_000
    assert max(map(len, pieces)) < 2000
