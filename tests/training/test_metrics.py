from training.metrics import final_figures


def test_what_decides_comes_first_and_an_accuracy_bears_its_interval():
    metrics = {
        "train_pairs": 236,
        "eval_accuracy_low": 0.506,
        "eval_accuracy_high": 0.9228,
        "eval_accuracy": 0.7778,
        "zeal": 0.123456,
        "note": "not a number",
    }
    assert final_figures(metrics) == [
        ("Held-out accuracy", "0.778 (95 % interval 0.506 to 0.923)"),
        ("Training pairs", "236"),
        ("zeal", "0.1235"),
    ]
