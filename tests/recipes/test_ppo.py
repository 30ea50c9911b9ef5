"""PPO on TRL's GRPOTrainer: policy and critic learn, and both go on where a run was cut off. test_actor_critic.py has the arithmetic."""

import json
import signal
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from trl import GRPOConfig

from tests.recipes.planted import make_online_run, planted_prompt
from tests.recipes.test_resume import wait_for_step
from tests.recipes.tiny import Row, curve, events, finish, result, start
from training.recipes.arguments import InvalidArguments, PPOArguments, parse_arguments
from training.recipes.data import encode
from training.recipes.models import load_causal_lm, load_tokenizer
from training.recipes.ppo import PPOTrainer, make_critic
from training.recipes.rewards.reward_model import load
from training.recipes.run_folder import RunFailed, RunFolder
from training.recipes.training import last_whole_checkpoint

LEARNING: Row = {"num_generations": 2, "num_iterations": 2, "critic_learning_rate": 1e-3, "watch_steps": 0}
EXACT = 1e-6


def make(path, model, **changes):
    return make_online_run(path, "ppo", model, **{**LEARNING, **changes})


def parse(**values) -> PPOArguments:
    arguments = parse_arguments("ppo", values)
    assert isinstance(arguments, PPOArguments)
    return arguments


def mean_of_last(values, count):
    return sum(list(values.values())[-count:]) / count


@pytest.mark.parametrize("seed", [0, 1])
def test_the_policy_finds_a_planted_reward(tiny_model, tmp_path, seed):
    run = make(tmp_path / "run", tiny_model, max_steps=40, beta=0.001, seed=seed)
    finish(run)
    reward, held_out = curve(run, "reward"), curve(run, "eval_reward")
    assert reward[1] < 0.1
    assert mean_of_last(reward, 4) > 0.6
    assert held_out[0] < 0.1
    assert held_out[40] > 0.6
    assert result(run)["metrics"]["eval_reward"] == held_out[40]
    divergence = curve(run, "kl")
    assert divergence[1] == pytest.approx(0, abs=1e-5)
    assert mean_of_last(divergence, 4) > 5
    for name in ("policy_loss", "value_loss", "entropy", "clip_ratio/region_mean", "clip_ratio/value"):
        assert len(curve(run, name)) == 40
    assert max(curve(run, "clip_ratio/region_mean").values()) > 0


@pytest.mark.parametrize("seed", [0, 1])
def test_the_critic_learns_which_prompts_are_rewarded(tiny_model, tmp_path, seed):
    short: Row = {"rewards": {"luck": 1.0}, "max_completion_length": 2, "cliprange_value": 1.0, "num_iterations": 6}
    run = make(tmp_path / "run", tiny_model, max_steps=48, critic_learning_rate=3e-3, seed=seed, **short)
    finish(run)
    explained, held_out = curve(run, "explained_variance"), curve(run, "eval_explained_variance")
    assert explained[1] < 0.1
    assert mean_of_last(explained, 3) > 0.5
    assert held_out[0] < 0.1
    assert held_out[48] > 0.5
    assert curve(run, "value_loss")[48] < curve(run, "value_loss")[1] / 4


def test_cut_off_in_the_middle_of_a_batch_a_run_ends_where_an_unbroken_one_ends(tiny_model, tmp_path):
    adaptive: Row = {"beta": 0.05, "kl_control": "adaptive", "target_kl": 0.1, "kl_horizon": 100}
    # A batch lasts four steps, two over each half; saves fall in between.
    changes: Row = {"max_steps": 24, "steps_per_generation": 2, "per_device_train_batch_size": 8, "save_steps": 3}
    unbroken, run = (
        make(tmp_path / name, tiny_model, **adaptive, **changes, max_completion_length=4, eval_prompts=2)
        for name in ("unbroken", "run")
    )
    finish(unbroken)
    for step, signum, code in ((6, signal.SIGKILL, -signal.SIGKILL), (13, signal.SIGTERM, 75)):
        reached = max([event["step"] for event in events(run, "progress")], default=0)
        process = start(run)
        wait_for_step(run, process, max(step, reached + 3))
        process.send_signal(signum)
        assert process.wait(timeout=30) == code
    finish(run)
    assert sum("Resumed from step" in event["message"] for event in events(run, "note")) == 2

    for name in ("loss", "reward", "value_loss", "kl", "kl_coefficient", "critic_grad_norm"):
        expected, found = curve(unbroken, name), curve(run, name)
        # the step after which SIGTERM ends an attempt is saved and not told
        assert len(found) >= len(expected) - 1
        assert found == pytest.approx({step: expected[step] for step in found}, abs=EXACT)
    assert len(set(curve(run, "kl_coefficient").values())) > 3
    saved = [last_whole_checkpoint(one / "trainer") or Path() for one in (unbroken, run)]
    for file in ("critic.safetensors", "model.safetensors"):
        weights, same = (load_file(one / file) for one in saved)
        assert set(weights) == set(same)
        assert max((weights[name] - same[name]).abs().max().item() for name in weights) < EXACT
    penalties = [json.loads((one / "penalty.json").read_text())["coefficient"] for one in saved]
    assert penalties[0] == pytest.approx(penalties[1], abs=EXACT)
    assert penalties[0] != 0.05


def test_a_batch_in_two_parts_teaches_what_it_teaches_in_one(tiny_model, tmp_path):
    runs = [
        make(
            tmp_path / str(parts),
            tiny_model,
            max_steps=4,
            eval_prompts=0,
            per_device_train_batch_size=16 // parts,
            gradient_accumulation_steps=parts,
        )
        for parts in (1, 2)
    ]
    for run in runs:
        finish(run)
    for name in ("loss", "grad_norm", "critic_grad_norm"):
        whole, halves = (curve(run, name) for run in runs)
        assert len(whole) == 4
        assert halves == pytest.approx(whole, rel=1e-3, abs=1e-5)


def test_an_adapter_is_held_to_its_base_and_the_critic_trains_one_too(tiny_model, tmp_path):
    run = make(
        tmp_path / "run", tiny_model, max_steps=4, use_peft=True, lora_r=4, beta=0.01, save_steps=4, eval_prompts=0
    )
    finish(run)
    divergence = curve(run, "kl")
    assert divergence[1] == pytest.approx(0, abs=1e-5)
    assert abs(divergence[3]) > 1e-3
    assert result(run)["is_adapter"]
    critic = load_file(run / "trainer/checkpoint-4/critic.safetensors")
    assert all("lora_" in name or name.startswith("head.") for name in critic)
    assert any("lora_B" in name and weights.any() for name, weights in critic.items())


# Parts in this process


@pytest.fixture
def make_trainer(tiny_model, tmp_path):
    def make_trainer(reward, **changes):
        arguments = parse(**{**LEARNING, "rewards": {"planted": 1.0}, **changes})
        folder = RunFolder(tmp_path, {"policy": {"location": f"folder:{tiny_model}"}})
        tokenizer = load_tokenizer(folder, folder.model())
        return PPOTrainer(
            critic=make_critic(folder, arguments, tokenizer),
            arguments=arguments,
            model=load_causal_lm(folder.model()),
            args=GRPOConfig(
                output_dir=str(tmp_path / "trainer"),
                per_device_train_batch_size=8,
                num_generations=2,
                max_completion_length=6,
                beta=0.0,
                use_cpu=True,
                bf16=False,
                report_to="none",
            ),
            reward_funcs=[reward],
            train_dataset=Dataset.from_list([{"prompt": planted_prompt(number)["prompt"]} for number in range(8)]),
            processing_class=tokenizer,
        )

    return make_trainer


def test_a_completion_without_a_reward_teaches_nothing_and_one_that_does_not_end_pays(make_trainer):
    def every_other(completion_ids, **_):
        return [1.0 if at % 2 == 0 else None for at in range(len(completion_ids))]

    trainer = make_trainer(every_other, lam=1.0, missing_eos_penalty=0.25, beta=0.0)
    trainer.model.train()
    batch = trainer._generate_and_score_completions([{"prompt": planted_prompt(1)["prompt"]}] * 8)
    mask, tokens = batch["mask"], batch["completion_mask"].float()
    assert torch.equal(mask[0::2], tokens[0::2])
    assert not mask[1::2].any()
    assert not batch["advantages"][1::2].any()
    # Without discount or divergence the return at each token is the score.
    last = batch["completion_ids"].gather(1, tokens.sum(1, keepdim=True).long() - 1).squeeze(1)
    ended = torch.isin(last, torch.tensor(trainer.eos_token_ids))
    scores = (1 - 0.25 * (~ended).float()).unsqueeze(1)
    torch.testing.assert_close(batch["returns"][0::2], (scores * mask)[0::2])
    assert not ended.all()


def test_gradients_of_policy_and_critic_are_clipped_apart_and_forgotten_after_the_step(make_trainer):
    trainer = make_trainer(lambda completions, **_: [0.0] * len(completions))
    optimizer = trainer.create_optimizer()
    assert {group["lr"] for group in optimizer.param_groups} == {trainer.args.learning_rate, 1e-3}
    for model, gradient in ((trainer.model, 1e-6), (trainer.critic, 100.0)):
        for parameter in model.parameters():
            parameter.grad = torch.full_like(parameter, gradient)
    trainer._clip_grad_norm(trainer.model)
    assert torch.nn.utils.get_total_norm([one.grad for one in trainer.critic.parameters()]) == pytest.approx(1, 1e-3)
    assert all(torch.all(one.grad == 1e-6) for one in trainer.model.parameters())
    optimizer.step()
    assert all(one.grad is None or not one.grad.any() for one in trainer.critic.parameters())


@pytest.fixture
def scored_folder(tiny_model, tmp_path):
    """A run's folder with a reward model of another mean."""
    scorer = tmp_path / "scorer"
    torch.manual_seed(0)
    AutoModelForSequenceClassification.from_pretrained(tiny_model, num_labels=1).save_pretrained(scorer)
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(scorer)
    (scorer / "score.json").write_text(json.dumps({"mean": 0.3}))
    models = {"policy": tiny_model, "reward_model": scorer}
    return RunFolder(tmp_path, {role: {"location": f"folder:{path}"} for role, path in models.items()})


def test_a_critic_from_the_reward_model_values_what_is_written_as_that_scores_it(scored_folder):
    tokenizer = load_tokenizer(scored_folder, scored_folder.model())
    critic = make_critic(scored_folder, parse(), tokenizer)
    prompt = [{"role": "user", "content": "oak?"}]
    ids = torch.tensor([[*encode(tokenizer, prompt, ["an elm"])["ids"][0], 0]])  # the state before one more token
    value = critic(ids, torch.ones_like(ids), 1).item()
    assert value == pytest.approx(load(scored_folder).score([prompt], ["an elm"])[0], abs=1e-5)


def test_a_critic_from_the_policy_expects_nothing_at_first(scored_folder):
    tokenizer = load_tokenizer(scored_folder, scored_folder.model())
    critic = make_critic(scored_folder, parse(critic_from="policy"), tokenizer)
    ids = torch.arange(4, 12).unsqueeze(0)
    assert critic(ids, torch.ones_like(ids), 5).tolist() == [[0.0] * 5]


def test_a_critic_from_a_reward_model_with_other_tokens_is_refused(scored_folder):
    policy = load_tokenizer(scored_folder, scored_folder.model())
    other = load_tokenizer(scored_folder, scored_folder.model("reward_model"))
    other.add_tokens(["oak"])
    other.save_pretrained(scored_folder.path / "scorer")
    with pytest.raises(RunFailed, match="let it start from the policy") as refusal:
        make_critic(scored_folder, parse(), policy)
    assert refusal.value.cause == "bad_arguments"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"kl_control": "adaptive", "beta": 0}, "beta"),
        ({"gradient_accumulation_steps": 2, "steps_per_generation": 3}, "steps_per_generation"),
        ({"missing_eos_penalty": 1, "mask_truncated_completions": True}, "missing_eos_penalty"),
    ],
)
def test_arguments_that_do_not_go_together_are_refused(changes, field):
    with pytest.raises(InvalidArguments) as refusal:
        parse(**changes)
    assert set(refusal.value.errors) == {field}
