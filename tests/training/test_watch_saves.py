"""What the repetition of a watched run, or of a reward model with a watchdog, takes over."""

import json
import zipfile

import numpy as np
import pytest
from safetensors.numpy import save_file

from training.services.saves import drop_saves, take_over_saves


def save(folder):
    folder.mkdir(parents=True)
    save_file({"weight": np.zeros(2, np.float32)}, folder / "model.safetensors")
    for name in ("optimizer.pt", "scheduler.pt"):
        with zipfile.ZipFile(folder / name, "w") as archive:
            archive.writestr("data", "0")
    (folder / "trainer_state.json").write_text("{}")


@pytest.mark.parametrize("second", [True, False])
def test_the_looks_and_the_second_half_go_along(tmp_path, second):
    earlier, again = tmp_path / "earlier", tmp_path / "again"
    save(earlier / "trainer/checkpoint-20")
    again.mkdir()
    if second:
        save(earlier / "trainer/watchdog/checkpoint-5")
        (earlier / "trainer/watchdog/checkpoint-9").mkdir()
    save(earlier / "trainer/watch/step-10")
    (earlier / "trainer/watch/look-10.json").write_text(json.dumps({"step": 10}))
    assert take_over_saves(earlier, again) == 20
    assert (again / "trainer/watch/step-10/model.safetensors").is_file()
    assert json.loads((again / "trainer/watch/look-10.json").read_text()) == {"step": 10}
    assert (again / "trainer/watchdog/checkpoint-5/optimizer.pt").is_file() == second
    assert not (again / "trainer/watchdog/checkpoint-9").exists()
    drop_saves(earlier)
    assert not (earlier / "trainer").exists()
    assert (again / "trainer/watch/step-10/model.safetensors").is_file()
