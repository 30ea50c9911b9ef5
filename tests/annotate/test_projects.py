import re

import pytest

from annotate.models import AuditEvent, Flag, Membership, Project, Prompt, Ranking, RankingTask
from tests.conftest import make_task, make_user, signed_in

pytestmark = pytest.mark.django_db


def membership(user, project):
    return Membership.objects.present().filter(user=user, project=project).first()


def test_home_lists_only_ones_own_projects(project, bob, charlie):
    assert "Tides" in signed_in(bob).get("/").content.decode()
    assert "Tides" not in signed_in(charlie).get("/").content.decode()


def test_an_archived_project_stays_in_its_admins_reach(project, alice, bob):
    Project.objects.update(state="archived")
    page = signed_in(alice).get("/").content.decode()
    assert "Archived" in page
    assert f'href="/projects/{project.slug}/"' in page
    assert "Tides" not in signed_in(bob).get("/").content.decode()
    signed_in(alice).post(f"/projects/{project.slug}/settings/state", {"state": "active"})
    assert "Tides" in signed_in(bob).get("/").content.decode()


@pytest.mark.parametrize("state", ["paused", "archived"])
def test_the_ranking_page_says_that_ranking_has_stopped(project, bob, state):
    make_task(project)
    Project.objects.update(state=state)
    assert f"This project is {state}" in signed_in(bob).get(f"/projects/{project.slug}/rank").content.decode()


def test_staff_make_a_project_and_become_its_admin(charlie):
    assert signed_in(charlie).get("/projects/new").status_code == 403
    charlie.is_staff = True
    charlie.save()
    data = {"name": "Deep Sea", "slug": "", "overlap": 2, "completions_per_task": 4}
    response = signed_in(charlie).post("/projects/new", data)
    assert (response.status_code, response.headers["Location"]) == (302, "/projects/deep-sea/")
    assert membership(charlie, Project.objects.get(slug="deep-sea")).role == "admin"
    again = signed_in(charlie).post("/projects/new", data)
    assert "Another project has the address" in again.content.decode()
    assert "Give an address" in signed_in(charlie).post("/projects/new", {**data, "name": "New"}).content.decode()
    assert Project.objects.count() == 1


def test_an_admin_adds_people_by_name_or_address(project, alice, charlie):
    page = f"/projects/{project.slug}/members"
    dora = make_user("dora")
    signed_in(alice).post(page, {"person": "charlie", "role": "annotator"})
    signed_in(alice).post(page, {"person": "DORA@example.org", "role": "researcher"})
    assert (membership(charlie, project).role, membership(dora, project).role) == ("annotator", "researcher")
    assert "a member already" in signed_in(alice).post(page, {"person": "dora", "role": "admin"}).content.decode()
    assert "Nobody" in signed_in(alice).post(page, {"person": "eve", "role": "admin"}).content.decode()
    assert AuditEvent.objects.filter(verb="member.added").count() == 2


def test_the_last_admin_can_neither_leave_nor_step_down(project, alice, bob):
    page = f"/projects/{project.slug}/members/"
    admin = membership(alice, project)
    for data in ({"action": "remove"}, {"role": "annotator"}):
        response = signed_in(alice).post(page + str(admin.pk), data, follow=True)
        assert "needs an admin" in response.content.decode()
    assert membership(alice, project).role == "admin"
    signed_in(alice).post(page + str(membership(bob, project).pk), {"role": "admin"})
    signed_in(alice).post(page + str(admin.pk), {"action": "remove"})
    assert membership(alice, project) is None
    assert signed_in(alice).get(f"/projects/{project.slug}/").status_code == 404


@pytest.mark.parametrize("data", [{"action": "remove"}, {"role": "researcher"}])
def test_whoever_may_no_longer_rank_gives_their_task_back(project, alice, bob, data):
    make_task(project)
    task = make_task(project, "And at dusk?")
    client = signed_in(bob)
    client.get(f"/projects/{project.slug}/rank")
    first = bob.assignments.get()
    order = {"token": str(first.token), "verdict": "ranked", "places": '[["A"], ["B"], ["C"], ["D"]]'}
    client.post(f"/projects/{project.slug}/rank/{first.pk}/submit", order)
    signed_in(alice).post(f"/projects/{project.slug}/members/{membership(bob, project).pk}", data)
    task.refresh_from_db()
    assert (task.leased, Ranking.objects.current().count()) == (0, 1)
    assert client.get(f"/projects/{project.slug}/rank").status_code in (403, 404)


def test_a_member_of_another_project_cannot_be_reached(project, alice, charlie):
    elsewhere = Project.objects.create(slug="winds", name="Winds", created_by=charlie)
    foreign = Membership.objects.create(project=elsewhere, user=charlie, role="admin")
    flag = Flag.objects.create(project=elsewhere, task=make_task(elsewhere), raised_by=charlie, reason="x")
    client = signed_in(alice)
    assert client.post(f"/projects/{project.slug}/members/{foreign.pk}", {"action": "remove"}).status_code == 404
    assert client.post(f"/projects/{project.slug}/flags/{flag.pk}", {"decision": "close"}).status_code == 404
    assert client.get(f"/projects/{project.slug}/prompts/{flag.task.prompt_id}").status_code == 404


PAGES = {
    "": (200, 200, 200),
    "guidelines": (200, 200, 200),
    "rank": (200, 200, 403),
    "settings": (200, 403, 403),
    "members": (200, 403, 403),
    "flags": (200, 403, 403),
    "prompts": (200, 403, 200),
}


@pytest.mark.parametrize("page", PAGES)
def test_each_role_sees_its_pages_and_strangers_none(project, alice, bob, rita, charlie, client, page):
    make_task(project)
    path = f"/projects/{project.slug}/{page}"
    assert tuple(signed_in(user).get(path).status_code for user in (alice, bob, rita)) == PAGES[page]
    assert signed_in(charlie).get(path).status_code == 404
    assert client.get(path).status_code == 302


def tabs_of(user, path):
    """The labels of the project's tabs as this person sees them, and the one that is marked."""
    nav = signed_in(user).get(path).content.decode().partition("project-nav")[2].partition("</nav>")[0]
    tabs = re.findall(r"<a href=\"[^\"]*\"( aria-current=\"page\")?>([^<]*)</a>", nav)
    return [label for _, label in tabs], [label for current, label in tabs if current]


def test_each_role_has_its_tabs_and_the_section_is_marked_on_every_page_of_it(project, alice, bob, rita):
    root = f"/projects/{project.slug}/"
    task = make_task(project)
    assert tabs_of(bob, root) == (["Rank"], [])
    everything = ["Rank", "Prompts", "Datasets", "Runs", "Checkpoints", "Quality", "Members", "Settings"]
    assert tabs_of(alice, root) == (everything, [])
    assert set(tabs_of(rita, root)[0]).isdisjoint({"Rank", "Members", "Settings"})
    sections = {"rank": "Rank", "imports": "Prompts", f"prompts/{task.prompt_id}": "Prompts", "flags": "Quality"}
    sections |= {"runs/new/generate": "Runs", "members": "Members", "settings": "Settings"}
    for page, section in sections.items():
        assert tabs_of(alice, root + page)[1] == [section]


def first_step(user, project):
    steps = signed_in(user).get(f"/projects/{project.slug}/").context["next_steps"]
    return steps[0].title if steps else None


def rank_one(user, project):
    client = signed_in(user)
    client.get(f"/projects/{project.slug}/rank")
    assignment = user.assignments.get(state="leased")
    order = {"token": str(assignment.token), "verdict": "ranked", "places": '[["A"], ["B"], ["C"], ["D"]]'}
    assert client.post(f"/projects/{project.slug}/rank/{assignment.pk}/submit", order).status_code == 200


def test_project_home_says_what_to_do_next(project, alice, bob):
    assert first_step(bob, project) is None
    make_task(project)
    assert first_step(bob, project) == first_step(alice, project) == "Rank answers"
    RankingTask.objects.update(state="closed")
    assert first_step(bob, project) is None


def test_nobody_is_sent_to_rank_in_a_paused_project(project, alice, bob):
    make_task(project)
    Project.objects.update(state="paused")
    assert first_step(bob, project) is None
    assert first_step(alice, project) is None


def test_whoever_ranked_everything_is_not_sent_to_rank(project, alice, bob):
    project.overlap = 2
    make_task(project)
    rank_one(bob, project)
    assert first_step(bob, project) is None
    assert first_step(alice, project) == "Rank answers"


def test_whoever_holds_the_last_task_is_sent_back_to_it_and_it_still_counts(project, alice, bob):
    make_task(project)
    signed_in(bob).get(f"/projects/{project.slug}/rank")
    assert first_step(bob, project) == "Rank answers"
    page = signed_in(alice).get(f"/projects/{project.slug}/")
    assert (page.context["next_steps"], page.context["counts"]["open_tasks"].value) == ([], 1)


def test_an_admin_writes_new_answers_only_when_everything_is_ranked(project, alice, bob):
    make_task(project)
    flagged = make_task(project, "And at dusk?")
    RankingTask.objects.filter(pk=flagged.pk).update(state="flagged")
    flag = Flag.objects.create(project=project, task=flagged, raised_by=bob, reason="x")
    rank_one(bob, project)
    assert first_step(alice, project) == "Settle flags"
    signed_in(alice).post(f"/projects/{project.slug}/flags/{flag.pk}", {"decision": "close"})
    assert first_step(alice, project) == "Write new answers"


def test_prompts_are_listed_and_opened(project, rita):
    for number in range(55):
        Prompt.objects.create(
            project=project, messages=[{"role": "user", "content": f"Question {number:02}?"}], content_hash=str(number)
        )
    task = make_task(project, "Is <b>it</b> *so*?")
    client = signed_in(rita)
    first = client.get(f"/projects/{project.slug}/prompts").content.decode()
    assert "Question 54" in first
    assert "Question 05" not in first
    more = client.get(
        f"/projects/{project.slug}/prompts?before={Prompt.objects.order_by('-pk')[49].pk}"
    ).content.decode()
    assert "Question 05" in more
    assert client.get(f"/projects/{project.slug}/prompts?before=x'").status_code == 200
    page = client.get(f"/projects/{project.slug}/prompts/{task.prompt_id}").content.decode()
    assert "&lt;b&gt;it&lt;/b&gt; <em>so</em>" in page
    assert "Answer 3." in page


def test_an_admin_withdraws_an_ideal_answer_and_writing_it_again_brings_it_back(project, alice, bob, rita):
    task = make_task(project)
    client = signed_in(bob)
    client.get(f"/projects/{project.slug}/rank")
    write = f"/projects/{project.slug}/rank/{bob.assignments.get().pk}/demonstration"
    assert client.post(write, {"text": "Scattering."}).status_code == 204
    ideal = project.demonstrations.get()
    page = f"/projects/{project.slug}/prompts/{task.prompt_id}"
    assert "Withdraw this ideal answer" not in signed_in(rita).get(page).content.decode()
    assert "Withdraw this ideal answer" in signed_in(alice).get(page).content.decode()
    for _twice in range(2):
        response = signed_in(alice).post(f"/projects/{project.slug}/demonstrations/{ideal.pk}/withdraw", follow=True)
        assert "was withdrawn" in response.content.decode()
    assert AuditEvent.objects.filter(verb="demonstration.withdrawn", target=f"demonstration:{ideal.pk}").count() == 1
    assert client.post(write, {"text": "Scattering."}).status_code == 204
    ideal.refresh_from_db()
    assert ideal.withdrawn_at is None


def test_guidelines_come_as_a_page_and_as_a_fragment(project, bob):
    project.guidelines = "Be **kind**. <script>alert(1)</script>"
    project.save()
    client = signed_in(bob)
    page = client.get(f"/projects/{project.slug}/guidelines").content.decode()
    fragment = client.get(f"/projects/{project.slug}/guidelines", headers={"HX-Request": "true"}).content.decode()
    assert "<strong>kind</strong>" in page
    assert "<strong>kind</strong>" in fragment
    assert "<html" not in fragment
    assert "<script>alert" not in page + fragment
