"""The page of one task: every ranking of it side by side, and what admins do to it."""

import pytest
from django.utils import timezone

from annotate.models import AuditEvent, Flag, KnownOrder, Membership, RankedCompletion, Ranking, RankingTask
from annotate.services.adjudication import compare_rankings
from tests.annotate.rows import demonstrate, rank
from tests.conftest import make_task, make_user, signed_in

pytestmark = pytest.mark.django_db


def address(task, action=""):
    return f"/projects/{task.project.slug}/tasks/{task.pk}" + (f"/{action}" if action else "")


def opened(user, task, query=""):
    response = signed_in(user).get(address(task) + query)
    assert response.status_code == 200
    return response


@pytest.fixture
def ranked(project, bob):
    """A task that bob and carol ranked in opposite orders, carol on second thought."""
    project.criteria = ["Quality", "Clarity"]
    project.save()
    carol = make_user("carol")
    Membership.objects.create(project=project, user=carol, role="annotator")
    task = make_task(project, "Why is the sky blue?", ["Scattering.", "It is not.", "Magic."])
    bobs = rank(task, bob, [1, 2, 3], reasons=["clearer"], comment="Close call.")
    RankedCompletion.objects.filter(ranking=bobs, rank=1).update(ratings={"Clarity": 5, "Quality": 3, "Old": 1})
    rank(task, carol, [3, 2, 1])
    first = Ranking.objects.create(
        project=project,
        task=task,
        assignment=task.assignments.get(annotator=carol),
        annotator=carol,
        token="00000000-0000-0000-0000-000000000001",
        revision=2,
        is_current=False,
        withdrawn_at=timezone.now(),
        seconds=5,
    )
    RankedCompletion.objects.bulk_create(
        RankedCompletion(ranking=first, completion=completion, rank=1) for completion in task.completions.all()
    )
    return task


def test_every_ranking_stands_beside_the_others(ranked, alice):
    compare_rankings()
    page = opened(alice, ranked)
    html = page.content.decode()
    columns = page.context["columns"]
    assert [column["name"] for column in columns] == ["bob", "carol"]
    assert [[cell["rank"] for cell in row["cells"]] for row in page.context["rows"]] == [[1, 3], [2, 2], [3, 1]]
    assert [cell["letter"] for cell in page.context["rows"][1]["cells"]] == ["B", "B"]
    assert page.context["rows"][0]["cells"][0]["ratings"] == [("Quality", 3), ("Clarity", 5), ("Old", 1)]
    assert [column["tau"] for column in columns] == ["−1.00", "−1.00"]
    for text in ("Scattering.", "imported", "clearer", "Close call.", "Clarity: 5", "1 earlier revision"):
        assert text in html, text
    (earlier,) = page.context["withdrawn"]
    assert (earlier["name"], earlier["places"], earlier["ranking"].revision) == ("carol", [[1, 2, 3]], 2)


def test_a_researcher_reads_pseudonyms_and_may_change_nothing(ranked, rita, project):
    html = opened(rita, ranked).content.decode()
    for name in ("bob", "carol"):
        assert name not in html
        assert Membership.objects.get(user__username=name).pseudonym in html
    assert "Take it out of the queue" not in html
    assert "Decide" not in html
    assert signed_in(rita).post(address(ranked, "state"), {"action": "close", "reason": "other"}).status_code == 403


def test_all_bad_has_no_places_and_a_former_member_no_name(project, rita, bob):
    task = make_task(project)
    rank(task, bob, [1, 1, 1, 1], verdict="all_bad")
    Membership.objects.filter(user=bob).delete()
    page = opened(rita, task)
    assert [row["cells"][0]["rank"] for row in page.context["rows"]] == [None] * 4
    assert "a former member" in page.content.decode()
    assert "All bad" in page.content.decode()


def test_a_known_order_stands_beside_what_people_said(project, alice, bob):
    task = make_task(project, texts=["right", "wrong"])
    RankingTask.objects.filter(pk=task.pk).update(purpose="gold", overlap=32767)
    right, wrong = task.completions.order_by("pk")
    KnownOrder.objects.create(task=task, ranks={str(right.pk): 1, str(wrong.pk): 2})
    task.refresh_from_db()
    rank(task, bob, [2, 1], accuracy=0.0)
    page = opened(alice, task)
    assert [row["known"] for row in page.context["rows"]] == [1, 2]
    html = page.content.decode()
    assert "Known order" in html
    assert "0 %" in html


def test_a_much_ranked_task_shows_its_rankings_in_pages(project, alice):
    task = make_task(project)
    RankingTask.objects.filter(pk=task.pk).update(overlap=50)
    task.refresh_from_db()
    for number in range(22):
        rank(task, make_user(f"person{number}"), [1, 2, 3, 4])
    assert len(opened(alice, task).context["columns"]) == 20
    assert len(opened(alice, task, "?page=2").context["columns"]) == 2


def test_the_prompt_links_to_its_tasks_and_a_task_to_its_ideal_answers(project, alice, bob):
    task = make_task(project)
    demonstrate(project, bob, "Why is the sky blue?", "Rayleigh.")
    html = signed_in(alice).get(f"/projects/{project.slug}/prompts/{task.prompt_id}").content.decode()
    assert f'href="{address(task)}"' in html
    assert opened(alice, task).context["ideal"] == 1


def test_another_projects_task_is_not_there(project, alice, charlie):
    elsewhere = type(project).objects.create(slug="elsewhere", name="Elsewhere", created_by=charlie)
    task = make_task(elsewhere)
    for action in ("", "state", "decide"):
        path = f"/projects/{project.slug}/tasks/{task.pk}" + (f"/{action}" if action else "")
        client = signed_in(alice)
        assert client.post(path).status_code in (404, 405)
        assert client.get(path).status_code in (404, 405)


def test_an_admin_flags_closes_and_reopens_a_task_and_drafts_stay(project, alice, bob):
    task = make_task(project)
    signed_in(bob).get(f"/projects/{project.slug}/rank")
    task.assignments.update(draft={"places": [["A"]]})
    admin = signed_in(alice)

    nothing_said = admin.post(address(task, "state"), {"action": "flag"}, follow=True)
    assert "Say what is wrong with this task." in nothing_said.content.decode()
    assert not Flag.objects.exists()

    admin.post(address(task, "state"), {"action": "flag", "reason": "harmful", "comment": "a name"})
    task.refresh_from_db()
    flag = Flag.objects.get()
    assert (task.state, task.leased, flag.raised_by, flag.settled_at) == ("flagged", 0, alice, None)
    admin.post(f"/projects/{project.slug}/flags/{flag.pk}", {"decision": "reopen", "back": "task"})
    task.refresh_from_db()
    assert task.state == "open"
    again = signed_in(bob).get(f"/projects/{project.slug}/rank")
    assert again.context["task"]["draft"] == {"places": [["A"]]}

    admin.post(address(task, "state"), {"action": "close", "reason": "no_sense", "comment": "twice the same"})
    task.refresh_from_db()
    closing = Flag.objects.latest("pk")
    assert (task.state, closing.resolution, closing.settled_by) == ("closed", "twice the same", alice)
    late = admin.post(address(task, "state"), {"action": "flag", "reason": "other"}, follow=True)
    assert "taken out of the queue meanwhile" in late.content.decode()

    admin.post(address(task, "state"), {"action": "reopen"})
    task.refresh_from_db()
    assert task.state == "open"
    assert (
        "not closed any more" in admin.post(address(task, "state"), {"action": "reopen"}, follow=True).content.decode()
    )
    verbs = list(AuditEvent.objects.filter(target=f"task:{task.pk}").order_by("pk").values_list("verb", flat=True))
    assert verbs == ["task.flagged", "task.reopened", "task.flagged", "task.closed", "task.reopened"]


@pytest.mark.parametrize(("purpose", "overlap", "submitted", "said"), [
    ("ranking", 1, 1, "not computed for this kind of task"),
    ("gold", 32767, 3, "not computed for this kind of task"),
    ("ranking", 3, 2, "once all rankings are in"),
    ("ranking", 3, 3, "within a minute"),
])  # fmt: skip
def test_the_page_says_why_there_is_no_agreement(project, alice, purpose, overlap, submitted, said):
    task = make_task(project)
    RankingTask.objects.filter(pk=task.pk).update(purpose=purpose, overlap=overlap, submitted=submitted)
    assert said in opened(alice, task).content.decode()
