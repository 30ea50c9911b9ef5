import os

import pytest

from tests.recipes.tiny import ENVIRONMENT, save_tiny_model

os.environ.update(ENVIRONMENT)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("models") / "tiny")
