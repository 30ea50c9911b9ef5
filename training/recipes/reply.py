"""Answers to conversations, one after another, from a model that stays loaded.

    python -m training.recipes.reply FOLDER

`args.json` names the MODEL. Each `ask-ID.json` ({"messages", "sampling": {"temperature", "top_p", "max_new_tokens", "seed"}}) is answered by
`said-ID.json` ({"text", "reasoning", "tokens"} or {"error"}), oldest first, until whoever started this ends it. Both files appear whole.
"""

import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

from training.recipes.arguments import GenerateArguments
from training.recipes.generate import load_sampler
from training.recipes.models import load_tokenizer
from training.recipes.run_folder import INTERRUPTED, RunFolder, explain
from training.recipes.sampling import Sampler, Settings, split_reasoning

LOOK_SECONDS = 0.05


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(INTERRUPTED))
    path = Path(sys.argv[1]).resolve()
    folder = RunFolder(path, {"policy": json.loads((path / "args.json").read_bytes())["model"]})
    try:
        tokenizer = load_tokenizer(folder, folder.model())
        sampler = load_sampler(folder, GenerateArguments())
    except Exception as error:
        folder.error(*explain(error))
        raise
    while True:
        for asked in sorted(path.glob("ask-*.json"), key=lambda file: file.stat().st_mtime):
            said = path / asked.name.replace("ask-", "said-")
            partial = said.with_suffix(".partial")
            partial.write_text(json.dumps(answer(json.loads(asked.read_bytes()), sampler, tokenizer)), encoding="utf-8")
            asked.unlink()
            partial.rename(said)
        time.sleep(LOOK_SECONDS)


def answer(asked: dict[str, Any], sampler: Sampler, tokenizer: Any) -> dict[str, Any]:
    try:
        length = len(tokenizer.apply_chat_template(asked["messages"], add_generation_prompt=True, return_dict=False))
        room = min(int(tokenizer.model_max_length), _positions(sampler)) - length
        if room < 1:
            return {"error": f"The conversation has {length} tokens, more than this model reads."}
        sampling = {**asked["sampling"], "max_new_tokens": min(asked["sampling"]["max_new_tokens"], room)}
        ((one,),) = sampler([asked["messages"]], Settings(num_generations=1, **sampling))
    except Exception as error:
        return {"error": explain(error)[1]}
    reasoning, text = split_reasoning(one.text)
    return {"text": text, "reasoning": reasoning, "tokens": one.tokens}


def _positions(sampler: Sampler) -> int:
    config = getattr(getattr(sampler, "model", None), "config", None)
    return int(getattr(config, "max_position_embeddings", None) or 2**31)


if __name__ == "__main__":
    main()
