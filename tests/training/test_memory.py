"""What the form says of a run's memory before it is queued, and what the page advises once it was too little."""

import json
from dataclasses import replace

import pytest
from django.urls import reverse

from tests.conftest import signed_in
from tests.training.conftest import make_checkpoint
from tests.training.test_runs import form_data
from training.models import Run
from training.recipes.arguments import RewardArguments, SFTArguments, to_json
from training.services.failures import advice_for
from training.services.memory import read_shape, training_bytes

CONFIG = {"hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 2}
TENSORS = {
    "model.embed_tokens.weight": [1000, 64],
    "model.layers.0.mlp.up_proj.weight": [256, 64],
    "model.layers.1.mlp.up_proj.weight": [256, 64],
    "model.norm.weight": [64],
}


@pytest.fixture
def weights(tmp_path):
    """A model's folder with the headers of its tensors, and none of their numbers."""
    folder = tmp_path / "weights"
    folder.mkdir()
    header = json.dumps({"__metadata__": {}, **{name: {"shape": shape} for name, shape in TENSORS.items()}}).encode()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    (folder / "config.json").write_text(json.dumps({**CONFIG, "intermediate_size": 256, "vocab_size": 1000}))
    return folder


def test_the_shape_is_read_from_headers_alone(weights):
    shape = read_shape(weights)
    assert shape.parameters == 1000 * 64 + 2 * 256 * 64 + 64
    assert shape.linear == 2 * (256 + 64)
    assert (shape.layers, shape.hidden, shape.keys, shape.intermediate, shape.vocabulary) == (2, 64, 32, 256, 1000)
    (weights / "model.safetensors").write_bytes(b"\xff" * 8 + b"{}")
    with pytest.raises(ValueError, match="no safetensors"):
        read_shape(weights)


def test_the_rule_counts_weights_moments_and_what_a_batch_of_longest_texts_leaves(weights):
    shape = read_shape(weights)

    def needed(arguments, method="reward", completions=4):
        return training_bytes(shape, method, to_json(arguments), completions, half=False)

    plain = RewardArguments(per_device_train_batch_size=2, max_length=100)
    of_a_token = 2 * 4 * (12 * 64 + 3 * 32 + 4 * 256)
    assert needed(plain) == 16 * shape.parameters + 2 * 4 * 100 * of_a_token
    assert needed(plain, completions=8) - needed(plain) == 2 * 4 * 100 * of_a_token
    assert needed(replace(plain, gradient_checkpointing=True)) < needed(plain)
    adapter = replace(plain, use_peft=True, lora_r=4)
    assert needed(plain) - needed(adapter) == 12 * (shape.parameters - 4 * shape.linear)
    assert needed(replace(plain, num_processes=2)) - needed(plain) == 4 * shape.parameters
    assert needed(SFTArguments(per_device_train_batch_size=1, max_length=16), "sft") > 16 * shape.parameters


def test_the_form_says_how_much_memory_a_run_needs_and_whether_the_device_has_it(alice, project, dataset, weights):
    base = make_checkpoint(project, weights, "small")

    def said(**arguments):
        query = {"HX-Request": "true"}
        address = reverse("run_new", args=[project.slug, "reward"])
        return (
            signed_in(alice)
            .get(address, form_data("reward", base, dataset, **arguments), headers=query)
            .content.decode()
        )

    assert "Each device needs at most some" in said()
    assert "has only" not in said()
    device = {"kind": "cuda", "name": "A small GPU", "memory_bytes": 2**20}
    Run.objects.create(
        project=project,
        method="reward",
        state="succeeded",
        arguments={},
        created_by=alice,
        result={"device": device, "peak_memory_bytes": 900_000},
    )
    html = said(max_length="512")
    assert "(A small GPU) has only 1.0\xa0MB" in html
    assert "The latest run of this method took 878.9\xa0KB" in html


def test_advice_about_memory_names_the_numbers_in_force_and_leaves_out_what_is_done_already():
    arguments = to_json(RewardArguments(per_device_train_batch_size=8, max_length=2048, use_peft=True))
    advice = " ".join(advice_for("out_of_memory", arguments))
    assert "per_device_train_batch_size (8)" in advice
    assert "max_length (2048)" in advice
    assert "gradient_checkpointing" in advice
    assert "use_peft" not in advice
    alone = " ".join(advice_for("out_of_memory", {**arguments, "per_device_train_batch_size": 1}))
    assert "per_device_train_batch_size" not in alone
    assert "learning rate" in " ".join(advice_for("nan_loss", arguments))
