"""Why a run failed, and what its owner can do, in words."""

from typing import Any

from django.utils.functional import Promise
from django.utils.translation import gettext, gettext_noop
from django.utils.translation import gettext_lazy as _


class RunFailed(Exception):
    """A run cannot go on. `cause` is one of the keys of ADVICE, `message` is for the person who started it."""

    def __init__(self, cause: str, message: str) -> None:
        self.cause, self.message = cause, message
        super().__init__(f"{cause}: {message}")


TITLES: dict[str, str | Promise] = {
    "out_of_memory": _("It ran out of memory."),
    "nan_loss": _("The loss became infinite or not a number."),
    "no_data": _("There was nothing to learn from."),
    "bad_dataset": _("The dataset could not be read."),
    "missing_model": _("The model could not be loaded."),
    "disk_full": _("The disk is full."),
    "bad_arguments": _("The recipe refused its arguments."),
    "reward_failed": _("A reward could not be computed."),
    "crash": _("The recipe stopped with an error."),
}

ADVICE: dict[str, str | Promise] = {
    "nan_loss": _("Lower the learning rate, or lengthen the warm-up. On old hardware switch bf16 off."),
    "no_data": _(
        "Rank more, build a new dataset version, and start the run on that one. A larger max_length keeps more."
    ),
    "bad_dataset": _("Build a new dataset version and start the run on that one."),
    "missing_model": _("Look at the checkpoint's page to see where its weights should be, or choose another one."),
    "disk_full": _("Free some space where the storage is, then retry: the run goes on from its last save."),
    "bad_arguments": _("Start a new run with other arguments; the message names the one that does not fit."),
    "reward_failed": _(
        "The message names the reward. If its judge could not be reached or its function has been mended, retry: the run goes on "
        "from its last save."
    ),
    "crash": _("The log below has the details. If it looks like a passing fault, retry."),
}


def advice_for(cause: str, arguments: dict[str, Any]) -> list[str]:
    """Whole sentences. What to do about too little memory depends on what is in force already."""
    if cause != "out_of_memory":
        return [str(ADVICE.get(cause, ADVICE["crash"]))]
    steps: list[str] = []
    batch, length = arguments.get("per_device_train_batch_size", 1), arguments.get("max_length")
    if batch > 1:
        steps.append(
            gettext(
                "Make per_device_train_batch_size (%(batch)d) smaller and gradient_accumulation_steps as many times larger."
            )
            % {"batch": batch}
        )
    if arguments.get("gradient_checkpointing") is False:
        steps.append(gettext("Switch gradient_checkpointing on; a step then takes about a third longer."))
    if arguments.get("use_peft") is False:
        steps.append(gettext("Train a LoRA adapter (use_peft) instead of all weights."))
    if "max_completion_length" in arguments:
        steps.append(
            gettext("Shorten max_completion_length (%(length)d).") % {"length": arguments["max_completion_length"]}
        )
    elif length:
        steps.append(gettext("Shorten max_length (%(length)d); longer texts are left out.") % {"length": length})
    steps.append(gettext("Or start the run on a machine with more memory, or spread the weights over several GPUs."))
    return steps


def failure_by_exit_code(code: int) -> RunFailed:
    """What an exit code says when the recipe itself said nothing. Codes of 128 + n stand for signal n."""
    if code in (-9, 137):
        return RunFailed(
            "out_of_memory",
            gettext_noop("The process was killed from outside, most likely by the system because its memory ran out."),
        )
    if code == 74:  # EX_IOERR: the recipe could not even write down why
        return RunFailed(
            "disk_full", gettext_noop("The disk that holds the storage is full: the recipe could not write to it.")
        )
    if code > 128 or code < 0:
        return RunFailed("crash", f"The process was ended by signal {abs(code) % 128}.")
    return RunFailed("crash", f"The process ended with code {code} and did not say why.")
