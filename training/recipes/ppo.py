"""Proximal policy optimisation: a policy learns from rewards, a critic of its own says how good each token was.

    python -m training.recipes.ppo RUN_DIR

Papers: PPO (arXiv:1707.06347), equation 7; GAE (arXiv:1506.02438); Ziegler et al. (arXiv:1909.08593), equation 2 and section 2.2, for
the divergence in the reward and the coefficient that adapts; InstructGPT (arXiv:2203.02155), appendix C.4, for the critic's start.
Departures: a critic's update is clipped like the policy's, as OpenAI's implementation has it. An entropy bonus there is none.
Dropout is off, an adapter's, too: the first pass over a batch must find the probabilities that it was sampled with.
A prompt is answered `num_generations` times, twice at least. Further: see training/recipes/online.py.

On TRL's GRPOTrainer, which samples, scores and keeps the batches; advantages and losses are ours (training/recipes/actor_critic.py).
Private parts: overrides `_calculate_rewards`, `_generate_and_score_completions`, `_prepare_inputs` and `_compute_loss`; of transformers'
Trainer `_clip_grad_norm`, `_save_optimizer_and_scheduler` and `_load_optimizer_and_scheduler`. Calls
`_get_per_token_logps_and_entropies`; reads `_buffered_inputs`; writes to `_metrics`.
Shapes: B completions, P tokens of prompts (padding left), T tokens of completions (padding right).
"""

import json
from pathlib import Path
from typing import Any

import torch
from peft import get_peft_model
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl import GRPOConfig, GRPOTrainer
from trl.trainer.utils import disable_dropout_in_model

from training.recipes.actor_critic import (
    Penalty,
    explained_variance,
    gae,
    policy_loss,
    token_rewards,
    value_loss,
    whiten,
)
from training.recipes.arguments import PPOArguments
from training.recipes.models import load_reward_model, load_tokenizer, lora, make_reward_model
from training.recipes.online import Online, run_online
from training.recipes.run_folder import RunFailed, RunFolder, main


class Critic(nn.Module):
    """V(s), the return that it expects before each token of a completion: a language model's body with a scalar head."""

    def __init__(self, scorer: PreTrainedModel) -> None:
        super().__init__()
        self.body: nn.Module = getattr(scorer, scorer.base_model_prefix)
        self.head: nn.Linear = scorer.score

    def forward(self, ids_BPT: torch.Tensor, attention_BPT: torch.Tensor, tokens: int) -> torch.Tensor:
        """(B, T) with T = `tokens`. The state before a token is what the body makes of the token that it follows."""
        hidden_BPTD = self.body(input_ids=ids_BPT, attention_mask=attention_BPT, use_cache=False).last_hidden_state
        with torch.autocast(hidden_BPTD.device.type, enabled=False):  # bfloat16 would leave a value three digits
            values_BT: torch.Tensor = self.head(hidden_BPTD[:, -tokens - 1 : -1].float()).squeeze(-1)
        return values_BT

    def trained(self) -> dict[str, torch.Tensor]:
        """What training changes: all weights, or with LoRA the adapter's and the head's."""
        return {name: parameter for name, parameter in self.named_parameters() if parameter.requires_grad}


class PPOTrainer(Online, GRPOTrainer):
    """`critic` learns beside the policy: in the same optimiser at a learning rate of its own, its gradients clipped by themselves."""

    def __init__(self, *, critic: Critic, arguments: PPOArguments, **settings: Any) -> None:
        super().__init__(**settings)
        if self.is_deepspeed_enabled or self.is_fsdp_enabled:
            raise RunFailed(
                "bad_arguments", "PPO trains two models at once, which FSDP and DeepSpeed cannot shard here."
            )
        self.arguments = arguments
        disable_dropout_in_model(critic)
        if self.args.gradient_checkpointing:
            critic.body.gradient_checkpointing_enable(self.args.gradient_checkpointing_kwargs)  # type: ignore[operator]
        self.critic = self.accelerator.prepare_model(critic.train())
        self.penalty = Penalty(
            arguments.beta,
            target=arguments.target_kl if arguments.kl_control == "adaptive" else None,
            horizon=arguments.kl_horizon,
        )
        self._scores_B = torch.empty(0)

    # The critic in the optimiser and in the trainer's checkpoints

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        if self.optimizer is None:
            optimizer: torch.optim.Optimizer = super().create_optimizer(model)
            decayed = set(self.get_decay_parameter_names(self.critic))
            for decays in (True, False):
                chosen = [
                    parameter
                    for name, parameter in self.critic.named_parameters()
                    if parameter.requires_grad and (name in decayed) == decays
                ]
                optimizer.add_param_group(
                    {
                        "params": chosen,
                        "lr": self.arguments.critic_learning_rate,
                        "weight_decay": self.args.weight_decay if decays else 0.0,
                    }
                )
            # The trainer forgets the gradients of the policy alone.
            optimizer.register_step_post_hook(lambda *_: self.critic.zero_grad())
        made: torch.optim.Optimizer = self.optimizer
        return made

    def _clip_grad_norm(self, model: nn.Module) -> torch.Tensor:
        norm = self.accelerator.clip_grad_norm_(self.critic.parameters(), self.args.max_grad_norm)
        self._metrics["train"]["critic_grad_norm"].append(float(norm))
        policy_norm: torch.Tensor = super()._clip_grad_norm(model)
        return policy_norm

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)
        if self.args.should_save:
            critic: Critic = self.accelerator.unwrap_model(self.critic)
            save_file({name: each.detach() for name, each in critic.trained().items()}, _critic_file(output_dir))
            _penalty_file(output_dir).write_text(json.dumps({"coefficient": self.penalty.coefficient}))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None:
            critic: Critic = self.accelerator.unwrap_model(self.critic)
            saved = load_file(_critic_file(checkpoint))
            with torch.no_grad():
                for name, parameter in critic.trained().items():
                    parameter.copy_(saved[name])
            self.penalty.coefficient = json.loads(_penalty_file(checkpoint).read_text())["coefficient"]

    # Sampled batches, with what each token was worth

    def _calculate_rewards(
        self, inputs: Any, prompts: list[Any], completions: list[Any], completion_ids_list: list[list[int]]
    ) -> torch.Tensor:
        rewards_NF: torch.Tensor = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        first = self.accelerator.process_index * len(prompts)
        rewards_BF = rewards_NF[first : first + len(prompts)]
        scores_B = (rewards_BF * self.reward_weights.to(rewards_BF.device)).nansum(1)
        unfinished_B = torch.tensor([ids[-1] not in self.eos_token_ids for ids in completion_ids_list])
        scores_B -= self.arguments.missing_eos_penalty * unfinished_B.to(scores_B)
        # A completion of which no reward says anything teaches nothing: its tokens are masked.
        self._scores_B = scores_B.masked_fill(rewards_BF.isnan().all(1), torch.nan)
        return rewards_NF

    @torch.no_grad()
    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        batch: dict[str, Any] = super()._generate_and_score_completions(inputs)
        ids_BPT, attention_BPT, tokens = whole(batch)
        if "old_per_token_logps" not in batch:
            batch["old_per_token_logps"], _, _ = self._get_per_token_logps_and_entropies(
                self.model, ids_BPT, attention_BPT, tokens, batch_size=self.args.per_device_train_batch_size
            )
        old_BT = batch["old_per_token_logps"]
        mask_BT = batch["completion_mask"].float() * ~self._scores_B.isnan().unsqueeze(1)
        size = self.args.per_device_train_batch_size
        values_BT = torch.cat(
            [
                self.critic(ids, attention, tokens)
                for ids, attention in zip(ids_BPT.split(size), attention_BPT.split(size), strict=True)
            ]
        )
        log_ratios_BT = (old_BT - batch.get("ref_per_token_logps", old_BT)) * mask_BT
        rewards_BT = token_rewards(self._scores_B.nan_to_num(), log_ratios_BT, mask_BT, self.penalty.coefficient)
        if self.arguments.whiten_rewards:
            rewards_BT = whiten(rewards_BT, mask_BT, shift_mean=False, total=self._total)
        advantages_BT, returns_BT = gae(rewards_BT, values_BT, mask_BT, self.arguments.gamma, self.arguments.lam)

        divergence, counted = self._total(torch.stack([log_ratios_BT.sum(), mask_BT.any(1).float().sum()])).tolist()
        kl = divergence / max(counted, 1)
        metrics = self._metrics["train" if self.model.training else "eval"]
        if "ref_per_token_logps" in batch:
            metrics["kl"].append(kl)
        metrics["explained_variance"].append(explained_variance(values_BT, returns_BT, mask_BT, self._total))
        if self.model.training:
            metrics["kl_coefficient"].append(self.penalty.coefficient)
            self.penalty.update(kl, int(counted))
        return batch | {
            "mask": mask_BT,
            "advantages": whiten(advantages_BT, mask_BT, total=self._total),
            "values": values_BT,
            "returns": returns_BT,
        }

    def _prepare_inputs(self, generation_batch: Any) -> dict[str, Any]:
        """Counts, for each batch, the tokens of the optimiser's step that it is part of, over all processes."""
        inputs: dict[str, Any] = super()._prepare_inputs(generation_batch)
        if "step_tokens" not in inputs:
            batches, size = [inputs], 1
            if self.model.training:
                batches, size = self._buffered_inputs, self.args.gradient_accumulation_steps
            for first in range(0, len(batches), size):
                step = batches[first : first + size]
                tokens = self._total(torch.stack([each["mask"].sum() for each in step]).sum()).clamp(min=1)
                for each in step:
                    each["step_tokens"] = tokens
        return inputs

    # What is learned from them

    def _compute_loss(self, model: nn.Module, inputs: dict[str, Any]) -> torch.Tensor:
        ids_BPT, attention_BPT, tokens = whole(inputs)
        mask_BT = inputs["mask"]
        log_probs_BT, entropy_BT, _ = self._get_per_token_logps_and_entropies(
            model, ids_BPT, attention_BPT, tokens, compute_entropy=True
        )
        values_BT = self.critic(ids_BPT, attention_BPT, tokens)
        policy_BT, policy_clipped_BT = policy_loss(
            log_probs_BT, inputs["old_per_token_logps"], inputs["advantages"], self.epsilon_low
        )
        value_BT, value_clipped_BT = value_loss(
            values_BT, inputs["values"], inputs["returns"], self.arguments.cliprange_value
        )
        told = {
            "policy_loss": policy_BT,
            "value_loss": value_BT,
            "entropy": entropy_BT,
            "clip_ratio/region_mean": policy_clipped_BT,
            "clip_ratio/value": value_clipped_BT,
        }
        sums = self._total(torch.stack([mask_BT.sum(), *((each.detach() * mask_BT).sum() for each in told.values())]))
        means = dict(zip(told, (sums[1:] / sums[0].clamp(min=1)).tolist(), strict=True))
        if (
            not self.model.training
        ):  # the policy that is evaluated is the one that sampled, so there is no ratio to clip
            means = {"entropy": means["entropy"]}
        for name, mean in means.items():
            self._metrics["train" if self.model.training else "eval"][name].append(mean)
        # The batches of a step add up to the mean over its tokens; processes are averaged afterwards.
        loss_BT = policy_BT + self.arguments.vf_coef * value_BT
        loss: torch.Tensor = (loss_BT * mask_BT).sum() * self.accelerator.num_processes / inputs["step_tokens"]
        return loss

    def _total(self, here: torch.Tensor) -> torch.Tensor:
        total: torch.Tensor = self.accelerator.reduce(here, reduction="sum")
        return total


def whole(batch: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Token ids and attention mask of prompts with completions, (B, P+T) each, and T."""
    ids_BPT = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
    attention_BPT = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
    return ids_BPT, attention_BPT, batch["completion_ids"].size(1)


def _critic_file(checkpoint: str) -> Path:
    return Path(checkpoint, "critic.safetensors")


def _penalty_file(checkpoint: str) -> Path:
    return Path(checkpoint, "penalty.json")


def make_critic(folder: RunFolder, arguments: PPOArguments, tokenizer: PreTrainedTokenizerBase) -> Critic:
    """From the reward model, which knows what the rewards are about, or from the policy with a head that says 0 at first."""
    if arguments.critic_from == "reward_model" and "reward_model" in folder.inputs:
        model = folder.model("reward_model")
        if load_tokenizer(folder, model).get_vocab() != tokenizer.get_vocab():
            raise RunFailed(
                "bad_arguments",
                "The critic cannot start from this reward model, whose tokens are not the policy's: let it start from the policy.",
            )
        scorer = load_reward_model(model)
    else:
        if arguments.critic_from == "reward_model":
            folder.note("The run has no reward model, so the critic starts from the policy.")
        scorer = make_reward_model(folder.model())
        nn.init.zeros_(scorer.score.weight)
        scorer.score.bias = nn.Parameter(torch.zeros(1))
    critic = Critic(scorer)
    if adapter := lora(arguments, "FEATURE_EXTRACTION"):
        critic.body = get_peft_model(critic.body, adapter)
    return critic


def ppo(folder: RunFolder, arguments: PPOArguments) -> None:
    def make_trainer(**settings: Any) -> PPOTrainer:
        critic = make_critic(folder, arguments, settings["processing_class"])
        return PPOTrainer(critic=critic, arguments=arguments, **settings)

    run_online(folder, arguments, make_trainer, GRPOConfig, disable_dropout=True)


if __name__ == "__main__":
    main("ppo", ppo)
