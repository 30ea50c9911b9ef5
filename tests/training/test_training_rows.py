from annotate.models import DatasetVersion
from training.services.datasets import training_rows

# 10 rankings of 4 completions, without ties
VERSION = DatasetVersion(counts={"train_best": 10, "train_pairs": 60, "test_best": 3, "train_demonstrations": 2})


def test_each_method_counts_what_it_learns_from():
    assert training_rows(VERSION, "dpo", {}) == 10
    assert training_rows(VERSION, "sft", {"train_on": "both"}) == 12
    assert training_rows(VERSION, "orpo", {"pairs": "best_worst"}) == 10
    assert training_rows(VERSION, "orpo", {"pairs": "all"}) == 60
    assert training_rows(VERSION, "kto", {"desirable": "best"}) == 20
    assert training_rows(VERSION, "kto", {"desirable": "middle"}) == 40
    assert training_rows(DatasetVersion(counts={}), "kto", {"desirable": "middle"}) == 0
