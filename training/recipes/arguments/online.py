"""Learning from the policy's own completions, scored by rewards."""

from dataclasses import dataclass
from typing import Literal

from .base import START, InvalidArguments, Method, TrainingArguments, _, argument
from .rewards import JUDGE, REWARD_MODEL, ScoringArguments
from .watch import WATCHDOG, WatchArguments

INPUTS = {"policy": START, "reward_model": REWARD_MODEL, "watchdog": WATCHDOG, "judge": JUDGE}


@dataclass(frozen=True, kw_only=True)
class PromptArguments:
    """Which of the project's prompts a run samples from."""

    num_prompts: int = argument(1000, _("Prompts"), _("Most prompts to sample from."), minimum=1, maximum=10_000_000)
    prompt_tag: str = argument(
        "", _("Tag of the prompts"), _("Only prompts that bear this tag; empty for all."), maximum=60
    )


@dataclass(frozen=True, kw_only=True)
class RolloutArguments(PromptArguments, ScoringArguments, WatchArguments, TrainingArguments):
    """What the methods share whose data is what the policy writes."""

    learning_rate: float = argument(
        1e-6, _("Learning rate"), _("Step size of the optimiser at its peak."), minimum=1e-8, maximum=1.0
    )
    temperature: float = argument(1.0, _("Temperature"), _("Higher is more varied."), minimum=0.01, maximum=5)
    top_p: float = argument(
        1.0,
        _("Nucleus (top p)"),
        _("Sample among the likeliest tokens that sum to this. Below 1 the policy that samples is not quite the one that learns."),
        minimum=0.01,
        maximum=1,
        advanced=True,
    )  # fmt: skip
    beta: float = argument(
        0.04, _("Hold to the reference (β)"), _("How closely the policy is held to the reference: higher is closer."),
        minimum=0, maximum=10,
    )  # fmt: skip
    eval_steps: int = argument(
        50,
        _("Steps between evaluations"),
        _("Steps between two held-out evaluations."),
        minimum=1,
        maximum=100_000,
        advanced=True,
    )
    eval_prompts: int = argument(
        32,
        _("Held-out prompts"),
        _("Most held-out prompts that an evaluation answers, once each; 0 for no evaluation."),
        minimum=0,
        maximum=10_000,
        advanced=True,
    )

    @property
    def batches_per_generation(self) -> int:
        """Batches that are sampled at once."""
        return 1

    @property
    def prompts_per_generation(self) -> int:
        """Different prompts without which nothing is sampled."""
        return 1

    @property
    def max_prompt_length(self) -> int:
        return self.max_length - self.max_completion_length

    def check(self) -> None:
        if errors := self.errors():
            raise InvalidArguments(errors)

    def errors(self) -> dict[str, str]:
        errors = {}
        if self.max_prompt_length < 1:
            errors["max_completion_length"] = (
                f"must leave room for a prompt: max_length allows {self.max_length} tokens for both"
            )
        if not any(self.rewards.values()):
            errors["rewards"] = "must name a reward whose weight is not 0"
        return errors


@dataclass(frozen=True, kw_only=True)
class OnlineArguments(RolloutArguments):
    """What the methods share that compare the completions of a group, on TRL's GRPOTrainer and RLOOTrainer."""

    num_generations: int = argument(
        8, _("Completions per prompt"), _("The group that a completion is compared with."), minimum=2, maximum=64
    )
    per_device_train_batch_size: int = argument(
        8, _("Batch size"), _("Completions, not prompts, per step on each device."), minimum=1, maximum=1024
    )
    num_iterations: int = argument(
        1, _("Passes over each sample (μ)"), _("How often each completion is learned from."), minimum=1, maximum=64,
        advanced=True,
    )  # fmt: skip
    steps_per_generation: int = argument(
        0,
        _("Batches per sampling"),
        _("Batches that are sampled at once and then learned from one by one; 0 for as many as make a step."),
        minimum=0,
        maximum=1024,
        advanced=True,
    )
    epsilon: float = argument(
        0.2,
        _("Clipping below (ε)"),
        _("How far the probability of a completion may fall below what it was when sampled."),
        minimum=0,
        maximum=1,
        advanced=True,
    )
    mask_truncated_completions: bool = argument(
        False,
        _("Learn from whole completions alone"),
        _("Completions that the length limit cut off leave the loss."),
        advanced=True,
    )
    use_vllm: bool = argument(
        False, _("Sample with vLLM"), _("Needs a CUDA device and the package vllm where the run trains."), advanced=True
    )
    vllm_mode: Literal["colocate", "server"] = argument(
        "colocate",
        _("Where vLLM runs"),
        _("In the run's own process, or on the server that the worker's VLLM_SERVER_URL names."),
        advanced=True,
    )
    vllm_gpu_memory_utilization: float = argument(
        0.3,
        _("Memory for vLLM"),
        _("Share of the GPU's memory that vLLM takes in the run's own process."),
        minimum=0.05,
        maximum=0.95,
        advanced=True,
    )

    @property
    def batches_per_generation(self) -> int:
        return self.steps_per_generation or self.gradient_accumulation_steps

    @property
    def prompts_per_generation(self) -> int:
        """Different prompts that are sampled at once on each device."""
        return self.per_device_train_batch_size * self.batches_per_generation // self.num_generations

    def errors(self) -> dict[str, str]:
        errors = super().errors()
        sampled = self.per_device_train_batch_size * self.batches_per_generation
        if sampled % self.num_generations:
            errors["num_generations"] = (
                f"must divide the {sampled} completions that are sampled at once: per_device_train_batch_size "
                f"({self.per_device_train_batch_size}) × batches per sampling ({self.batches_per_generation})"
            )
        return errors


@dataclass(frozen=True, kw_only=True)
class ClippedArguments(OnlineArguments):
    """For the methods of TRL that clip above apart from below."""

    epsilon_high: float = argument(
        0.2,
        _("Clipping above (ε high)"),
        _("How far it may rise; DAPO recommends 0.28, CISPO 5."),
        minimum=0,
        maximum=100,
        advanced=True,
    )


@dataclass(frozen=True, kw_only=True)
class GRPOArguments(ClippedArguments):
    loss_type: Literal["dapo", "grpo", "dr_grpo", "bnpo", "cispo", "sapo", "luspo", "vespo"] = argument(
        "dapo",
        _("Loss"),
        _("How tokens are weighed: dapo counts all alike, grpo each completion alike, dr_grpo against the longest completion."),
    )  # fmt: skip
    scale_rewards: Literal["group", "batch", "none"] = argument(
        "group",
        _("Scale of rewards"),
        _("Advantages are divided by the spread of rewards in the group or batch, or not at all, as Dr. GRPO has it."),
    )
    importance_sampling_level: Literal["token", "sequence"] = argument(
        "token",
        _("Ratios"),
        _("Probability ratios are taken for each token, or for the whole completion, as GSPO has it (with the loss grpo)."),
        advanced=True,
    )  # fmt: skip

    def errors(self) -> dict[str, str]:
        errors = super().errors()
        whole = self.importance_sampling_level == "sequence"
        if self.loss_type == "luspo" and not whole:
            errors["importance_sampling_level"] = "must be sequence with the loss luspo"
        if whole and self.loss_type not in ("grpo", "sapo", "luspo"):
            errors["importance_sampling_level"] = (
                f"must be token with the loss {self.loss_type}: sequence would weigh each completion by its length"
            )
        if self.loss_type == "cispo" and self.epsilon_high < 1:
            errors["epsilon_high"] = "must be at least 1 with the loss cispo, which caps the ratio itself; 5 is usual"
        return errors


@dataclass(frozen=True, kw_only=True)
class RLOOArguments(ClippedArguments):
    num_generations: int = argument(
        4, _("Completions per prompt"), _("Each is compared with the mean of the others."), minimum=2, maximum=64
    )
    beta: float = argument(
        0.05,
        _("Hold to the reference (β)"),
        _("Weight of the divergence from the reference, summed over the completion and taken off its reward."),
        minimum=0,
        maximum=10,
    )
    normalize_advantages: bool = argument(
        False,
        _("Normalise advantages"),
        _("Bring the advantages of each batch to mean 0 and deviation 1."),
        advanced=True,
    )


@dataclass(frozen=True, kw_only=True)
class PPOArguments(OnlineArguments):
    learning_rate: float = argument(
        3e-6, _("Learning rate"), _("Step size of the policy's optimiser at its peak."), minimum=1e-8, maximum=1.0
    )
    critic_learning_rate: float = argument(
        1e-5,
        _("Critic's learning rate"),
        _("Step size of the critic's optimiser at its peak. It may be larger than the policy's."),
        minimum=1e-8,
        maximum=1.0,
    )
    critic_from: Literal["reward_model", "policy"] = argument(
        "reward_model",
        _("The critic starts from"),
        _("The reward model knows what the rewards are about. Without one the critic starts from the policy."),
    )
    num_generations: int = argument(
        2, _("Completions per prompt"), _("Completions per prompt, two at least."), minimum=2, maximum=64
    )
    num_iterations: int = argument(
        4, _("Passes over each sample"), _("How often each completion is learned from."), minimum=1, maximum=64
    )
    beta: float = argument(
        0.05,
        _("Hold to the reference (β)"),
        _("What each nat of divergence from the reference takes off the reward. Where it adapts, this is its start."),
        minimum=0,
        maximum=10,
    )
    kl_control: Literal["fixed", "adaptive"] = argument(
        "fixed", _("β over time"), _("Keep β, or adapt it so that the divergence stays near its target.")
    )
    target_kl: float = argument(
        6.0,
        _("Target divergence"),
        _("Where β adapts: the divergence from the reference to keep to, in nats per completion."),
        minimum=0.001,
        maximum=10_000,
        advanced=True,
    )
    kl_horizon: int = argument(
        10_000,
        _("Horizon of β"),
        _("Where β adapts: a divergence a fifth off its target moves β by a fifth in so many completions."),
        minimum=1,
        maximum=100_000_000,
        advanced=True,
    )
    epsilon: float = argument(
        0.2,
        _("Clipping of the policy (ε)"),
        _("How far a token's probability may move, as a ratio, before a batch teaches no more of it."),
        minimum=0.001,
        maximum=1,
        advanced=True,
    )
    cliprange_value: float = argument(
        0.2,
        _("Clipping of the critic"),
        _("How far the critic's value may move before a batch teaches no more of it, in units of the reward."),
        minimum=0.001,
        maximum=1000,
        advanced=True,
    )
    vf_coef: float = argument(
        0.1, _("Weight of the critic's loss"), _("Weight of the critic's loss in the sum."), minimum=0, maximum=100,
        advanced=True,
    )  # fmt: skip
    gamma: float = argument(
        1.0, _("Discount (γ)"), _("What a reward one token later counts for now."), minimum=0, maximum=1, advanced=True
    )
    lam: float = argument(
        0.95,
        _("Trace (λ)"),
        _("Advantages by generalised estimation: 1 trusts the rewards alone, 0 the critic's next value alone."),
        minimum=0,
        maximum=1,
        advanced=True,
    )
    whiten_rewards: bool = argument(
        False,
        _("Scale rewards"),
        _("Divide the rewards of all tokens of a batch by their deviation. Advantages are always whitened."),
        advanced=True,
    )
    missing_eos_penalty: float = argument(
        0.0,
        _("Price of not ending"),
        _("Taken off the reward of a completion that the length limit cut off."),
        minimum=0,
        maximum=1000,
        advanced=True,
    )

    def errors(self) -> dict[str, str]:
        errors = super().errors()
        if self.batches_per_generation % self.gradient_accumulation_steps:
            errors["steps_per_generation"] = (
                f"must be a multiple of the {self.gradient_accumulation_steps} batches that make a step, or 0"
            )
        if self.kl_control == "adaptive" and not self.beta:
            errors["beta"] = "must be above 0 where it is to adapt"
        if self.missing_eos_penalty and self.mask_truncated_completions:
            errors["missing_eos_penalty"] = "must be 0 where cut completions leave the loss"
        return errors


@dataclass(frozen=True, kw_only=True)
class OnlineDPOArguments(RolloutArguments):
    per_device_train_batch_size: int = argument(
        8, _("Batch size"), _("Prompts per step on each device, two completions each."), minimum=1, maximum=1024
    )
    beta: float = argument(
        0.1,
        _("Hold to the reference (β)"),
        _("How closely the policy is held to the reference: higher is closer."),
        minimum=0.001,
        maximum=10,
    )
    loss_type: Literal["sigmoid", "ipo"] = argument(
        "sigmoid", _("Loss"), _("DPO's own (sigmoid) or IPO's, here over whole completions."), advanced=True
    )
    missing_eos_penalty: float = argument(
        0.0,
        _("Price of not ending"),
        _("Taken off the reward of a completion that the length limit cut off."),
        minimum=0,
        maximum=1000,
        advanced=True,
    )
    eval_prompts: int = argument(
        32,
        _("Held-out prompts"),
        _("Most held-out prompts that an evaluation answers, twice each; 0 for no evaluation."),
        minimum=0,
        maximum=10_000,
        advanced=True,
    )


def _online(name: str, title: str, summary: str, arguments: type[RolloutArguments]) -> Method:
    """A method whose policy learns from what it writes to the project's prompts."""
    return Method(name, title, summary, arguments, INPUTS, makes="causal_lm", dataset="none", prompts="all")


METHODS: tuple[Method, ...] = (
    _online(
        name="ppo",
        title=_("Proximal policy optimisation"),
        summary=_("Let the policy write answers, and learn from their rewards with a critic that judges each token."),
        arguments=PPOArguments,
    ),
    _online(
        name="grpo",
        title=_("Group relative policy optimisation"),
        summary=_("Let the policy write several answers to each prompt, and learn from how each compares with the rest."),
        arguments=GRPOArguments,
    ),
    _online(
        name="rloo",
        title=_("REINFORCE leave-one-out"),
        summary=_("Let the policy write several answers to each prompt, and learn from each against the mean of the others."),
        arguments=RLOOArguments,
    ),
    _online(
        name="online_dpo",
        title=_("Online direct preference optimisation"),
        summary=_("Let the policy write two answers to each prompt, and learn to prefer the one that the rewards prefer."),
        arguments=OnlineDPOArguments,
    ),
)  # fmt: skip
