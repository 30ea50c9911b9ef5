"""A recipe that learns nothing but keeps the contract of docs/architecture.md, and fails as `script.json` in its folder says.

{"steps": 40, "seconds": 0.05, "end": "done" | "crash" | "event" | "kill" | "full" | "again", "stubborn": false, "children": 0, "answers": 0}
"""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

folder = Path(sys.argv[1])
script: dict[str, Any] = {"steps": 3, "seconds": 0.01, "end": "done", "stubborn": False, "children": 0, "answers": 0}
if (folder / "script.json").exists():
    script |= json.loads((folder / "script.json").read_text())
saved = folder / "trainer" / "step"


def event(kind, **values):
    with (folder / "events.jsonl").open("a") as file:
        file.write(json.dumps({"kind": kind, "time": time.time(), **values}) + "\n")


alone = (folder / "alone").open("w")
try:
    fcntl.flock(alone, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    (folder / "OVERLAP").touch()
with (folder / "pids").open("a") as file:
    file.write(f"{os.getpid()}\n")
    for _ in range(script["children"]):
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        file.write(f"{child.pid}\n")
(folder / "environment.json").write_text(json.dumps(dict(os.environ)))

stop: list[bool] = []
signal.signal(signal.SIGTERM, lambda *_: None if script["stubborn"] else stop.append(True))
first = int(saved.read_text()) if saved.exists() else 0
event("note", message=f"from step {first}")
for step in range(first + 1, script["steps"] + 1):
    time.sleep(script["seconds"])
    event("progress", step=step, total=script["steps"])
    event("metrics", step=step, metrics={"loss": 1 / step, "eval_loss": 2 / step})
    saved.parent.mkdir(exist_ok=True)
    partial = saved.with_name("partial")
    partial.write_text(str(step))
    partial.rename(saved)
    if stop:
        sys.exit(75)
event(
    "sample", step=script["steps"], prompt=[{"role": "user", "content": "Why <b>?"}], before="old", after="<script>new"
)

if script["end"] == "event":
    event("error", cause="nan_loss", message="The loss is not a number since step 2.")
    sys.exit(1)
if script["end"] == "full":
    sys.exit(74)
if script["end"] == "again":
    sys.exit(75)
if script["end"] == "crash":
    raise ValueError("deep inside")
if script["end"] == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
if script["answers"]:
    prompts = [json.loads(line) for line in (folder / "data/prompts.jsonl").open()]
    with (folder / "completions.jsonl").open("w") as file:
        for prompt in prompts:
            answers = [{"completion": f"answer {number}"} for number in (*range(script["answers"]), 0)]
            file.write(json.dumps({"prompt_id": prompt["prompt_id"], "completions": answers}) + "\n")
args = json.loads((folder / "args.json").read_text())
if args["method"] == "rejection_sampling":
    made: dict[str, Any] = {
        "demonstration": "d",
        "prompt_id": "p",
        "prompt": [{"role": "user", "content": "Why?"}],
        "completion": "So.",
    }
    made |= {"reasoning": "", "annotator": "", "split": "train", "provenance": {"run": args["run"]}}
    (folder / "dataset").mkdir(exist_ok=True)
    (folder / "dataset/demonstrations.jsonl").write_text(json.dumps(made) + "\n")
outputs: dict[str, Any] = {"watchdog": {"eval_loss": 0.6}} if args["arguments"].get("watchdog") is True else {}
for name in ("checkpoint", *(f"checkpoint-{output}" for output in outputs)):
    (folder / name).mkdir(exist_ok=True)
    (folder / name / "model.safetensors").write_bytes(b"weights")
(folder / "result.json").write_text(
    json.dumps(
        {
            "metrics": {"eval_loss": 0.5, "nan": float("nan")},
            "is_adapter": False,
            "outputs": outputs,
            **script.get("result", {}),
        }
    )
)
