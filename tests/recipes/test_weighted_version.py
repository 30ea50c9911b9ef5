"""What a version weighs reaches the loss: from people's rankings through its file to the batch that is trained on."""

import shutil

import pytest
import torch
from transformers import AutoTokenizer

from annotate.models import Membership
from annotate.services.datasets import Filters
from tests.annotate.rows import build, rank
from tests.conftest import make_task, make_user
from training.recipes.data import load_rankings
from training.recipes.listwise import RankingCollator, bradley_terry
from training.recipes.run_folder import RunFolder

TEXTS = ["the best", "middling", "worst"]


@pytest.fixture
def crowd(project):
    """Three who agree on six tasks, and one who turns each of them around."""
    people = [make_user(f"person{number}") for number in range(4)]
    for user in people:
        Membership.objects.create(project=project, user=user, role="annotator")
    for number in range(6):
        task = make_task(project, f"Question {number}?", TEXTS)
        for user in people[:3]:
            rank(task, user, [1, 2, 3])
        rank(task, people[3], [3, 2, 1])


def loss_of(version, storage, path, tokenizer):
    """The Bradley-Terry loss of a model that thinks as the three do, over the whole version as one batch."""
    (path / "data").mkdir(parents=True)
    shutil.copy(storage / version.folder / "rankings.parquet", path / "data")
    train, _test = load_rankings(RunFolder(path, inputs={}), tokenizer, 256, "drop")
    rankings = list(train)
    batch = RankingCollator(tokenizer.pad_token_id, "drop")(rankings)
    ends = [tokenizer.decode(ids) for ranking in rankings for ids in ranking["ids"]]
    scores = torch.tensor([next(2.0 - at for at, text in enumerate(TEXTS) if text in end) for end in ends])
    return bradley_terry(scores, batch).item()


def test_reliability_changes_the_loss_as_it_should(project, alice, crowd, storage, tiny_model, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    equal = build(project, alice, test_fraction=0)
    weighted = build(project, alice, test_fraction=0, filters=Filters(weights="reliability"))
    # margins 1, 1 and 2 of the pairs, for the three; the same negated for the one
    right, wrong = (
        sum(torch.nn.functional.softplus(torch.tensor(-sign * margin)).item() for margin in (1.0, 1.0, 2.0)) / 3
        for sign in (1, -1)
    )
    assert loss_of(equal, storage, tmp_path / "equal", tokenizer) == pytest.approx((3 * right + wrong) / 4, abs=1e-5)
    assert sorted(weighted.counts["weights"].values())[0] == 0
    assert loss_of(weighted, storage, tmp_path / "weighted", tokenizer) == pytest.approx(right, abs=1e-5)
