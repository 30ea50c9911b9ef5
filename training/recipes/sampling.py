"""Samplers: completions for a batch of prompts, K for each. vLLM where a CUDA device and the package are there,
batched transformers otherwise.

Shapes: N prompts, K completions each, P prompt tokens after padding, T prompt and new tokens.
"""

import importlib.util
import re
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import torch
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from training.recipes.run_folder import Messages


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a batch was sampled. Temperature 0 is greedy. One seed serves the whole batch."""

    num_generations: int
    temperature: float
    top_p: float
    max_new_tokens: int
    seed: int

    def record(self) -> dict[str, Any]:
        """What is stored with each completion."""
        return {name: value for name, value in asdict(self).items() if name != "num_generations"}


@dataclass(frozen=True)
class Sampled:
    text: str
    tokens: int
    stopped: bool  # by the model itself, not by the length limit
    ids: tuple[int, ...] = ()  # with the token that ends it; the vLLM sampler leaves them out


class Sampler(Protocol):
    def __call__(self, prompts: list[Messages], settings: Settings) -> list[list[Sampled]]:
        """K completions for each prompt, in order."""
        ...


class TransformersSampler:
    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        self.model, self.tokenizer = model, tokenizer
        own = model.generation_config.eos_token_id
        self.eos_ids = sorted({tokenizer.eos_token_id, *(own if isinstance(own, list) else [own])} - {None})

    @torch.no_grad()  # not inference_mode: buffers made there could not be used by a training step that follows
    def __call__(self, prompts: list[Messages], settings: Settings) -> list[list[Sampled]]:
        rendered = [
            self.tokenizer.apply_chat_template(prompt, add_generation_prompt=True, tokenize=False) for prompt in prompts
        ]
        # Left: generation goes on from the last column, which must not be padding.
        batch_NP = self.tokenizer(
            rendered, add_special_tokens=False, padding=True, padding_side="left", return_tensors="pt"
        ).to(self.model.device)
        sample = settings.temperature > 0
        if sample:  # else a training run's own random state would be moved by the samples that it shows
            torch.manual_seed(settings.seed)
        ids_NKxT = self.model.generate(
            input_ids=batch_NP["input_ids"],
            attention_mask=batch_NP["attention_mask"],
            # Whole, so that a top_k or a penalty in the model's own generation_config.json does not slip in.
            generation_config=GenerationConfig(
                do_sample=sample,
                **({"temperature": settings.temperature, "top_p": settings.top_p, "top_k": 0} if sample else {}),
                repetition_penalty=1.0,
                num_return_sequences=settings.num_generations,
                max_new_tokens=settings.max_new_tokens,
                eos_token_id=self.eos_ids,
                pad_token_id=self.tokenizer.pad_token_id,
            ),
        )
        prompt_length = batch_NP["input_ids"].shape[1]
        sampled = [self._read(ids.tolist()) for ids in ids_NKxT[:, prompt_length:]]
        return [sampled[at : at + settings.num_generations] for at in range(0, len(sampled), settings.num_generations)]

    def _read(self, ids: list[int]) -> Sampled:
        end = next((at for at, token in enumerate(ids) if token in self.eos_ids), None)
        text = self.tokenizer.decode(ids[:end], skip_special_tokens=True)
        tokens = len(ids) if end is None else end + 1
        return Sampled(text, tokens, stopped=end is not None, ids=tuple(ids[:tokens]))


class VllmSampler:
    """`path` is a folder or a hub name that holds whole weights, adapters merged."""

    def __init__(self, path: str, tokenizer: PreTrainedTokenizerBase, *, bf16: bool) -> None:
        from vllm import LLM

        self.tokenizer = tokenizer
        self.llm = LLM(
            model=path,
            dtype="bfloat16" if bf16 else "float32",
            load_format="safetensors",  # "auto" would fall back on pickled weights
            trust_remote_code=False,
        )

    def __call__(self, prompts: list[Messages], settings: Settings) -> list[list[Sampled]]:
        from vllm import SamplingParams

        parameters = SamplingParams(
            n=settings.num_generations,
            temperature=settings.temperature,
            top_p=settings.top_p,
            max_tokens=settings.max_new_tokens,
            seed=settings.seed,
        )
        rendered = [
            {
                "prompt_token_ids": self.tokenizer.apply_chat_template(
                    prompt, add_generation_prompt=True, return_dict=False
                )
            }
            for prompt in prompts
        ]
        return [
            [Sampled(one.text, len(one.token_ids), one.finish_reason == "stop") for one in request.outputs]
            for request in self.llm.generate(rendered, parameters, use_tqdm=False)
        ]


def vllm_is_usable() -> bool:
    return torch.cuda.is_available() and importlib.util.find_spec("vllm") is not None


def written_ahead(tokenizer: PreTrainedTokenizerBase) -> str:
    """What a chat template writes of the completion itself: `<think>`, or nothing. It belongs to what is scored."""
    question = [{"role": "user", "content": "?"}]
    rendered: str = tokenizer.apply_chat_template(question, add_generation_prompt=True, tokenize=False)
    return "<think>\n" if rendered.rstrip().endswith("<think>") else ""


def split_reasoning(text: str) -> tuple[str, str]:
    """(reasoning, answer) of a model's output, parted as annotate/reasoning.py parts what people bring.

    Reasoning leads: `<think>reasoning</think>answer`, or without the opening tag when the template wrote it into the prompt.
    A block that never ends leaves an empty answer; tags further on belong to the answer.
    """
    block = re.match(r"\s*<think>(.*?)(?:</think>|\Z)", text, re.DOTALL)
    if block:
        return block[1].strip(), text[block.end() :].strip()
    reasoning, end, answer = text.partition("</think>")
    if end and "<think>" not in reasoning:
        return reasoning.strip(), answer.strip()
    return "", text.strip()
