import pytest

from tests.recipes.tiny import curve, events, finish, make_run, planted_ranking, result
from training.recipes.models import load_causal_lm

RANKINGS = [planted_ranking(number) for number in range(80)]


@pytest.mark.parametrize(("lora", "rate"), [(False, 1e-3), (True, 1e-2)])
def test_the_policy_comes_to_prefer_what_people_prefer(tiny_model, tmp_path, lora, rate):
    run = make_run(
        tmp_path / "run", "dpo", tiny_model, rankings=RANKINGS, learning_rate=rate, use_peft=lora,
        per_device_train_batch_size=8, max_steps=20, eval_steps=10, save_steps=10,
    )  # fmt: skip
    finish(run)

    loss, margins = curve(run, "loss"), curve(run, "rewards/margins")
    assert loss[1] == pytest.approx(0.6931, abs=1e-3)  # the reference is the policy itself at first
    assert loss[20] < 0.62
    assert margins[20] > 0.1 > abs(margins[1])
    assert curve(run, "eval_rewards/accuracies")[20] > 0.8
    assert result(run)["metrics"]["eval_accuracy"] > 0.8
    assert result(run)["is_adapter"] is lora
    shown = events(run, "sample")
    assert {event["step"] for event in shown} == {10, 20}
    assert len(shown) == 6
    assert all(event["before"] is not None for event in shown)

    trained = {"location": f"folder:{run / 'checkpoint'}"}
    base = {"location": f"folder:{tiny_model}"}
    model = load_causal_lm({**trained, "base": base} if lora else trained)
    first, second = (next(iter(one.model.layers[0].mlp.parameters())) for one in (model, load_causal_lm(base)))
    assert not first.equal(second)
