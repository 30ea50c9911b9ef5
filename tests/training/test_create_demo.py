"""The demo project: whole at once, and the same when it is made again."""

from django.core.management import call_command

from annotate.models import Completion, Project, completion_hash
from training.models import Checkpoint, Promotion


def test_the_demo_is_made_once_however_often_it_is_asked_for(db, tmp_path, capsys):
    accounts = tmp_path / "accounts"
    call_command("create_demo", accounts=accounts)
    project = Project.objects.get()
    counts = (project.prompts.count(), project.tasks.count(), Completion.objects.count())
    assert counts[:2] == (56, 56)
    assert "56 new tasks" in capsys.readouterr().out
    kept = accounts.read_text()
    call_command("create_demo", accounts=accounts)
    assert (project.prompts.count(), project.tasks.count(), Completion.objects.count()) == counts
    assert "new tasks" not in capsys.readouterr().out
    assert accounts.read_text() == kept
    assert Checkpoint.objects.count() == Promotion.objects.count() == 1


def test_a_completion_of_the_demo_is_known_by_the_hash_that_every_completion_has(db):
    call_command("create_demo")
    assert all(one.content_hash == completion_hash(one.text, one.reasoning) for one in Completion.objects.all())
