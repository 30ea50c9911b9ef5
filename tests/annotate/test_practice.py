"""Practice before real tasks: explained, fed back, scored, and idempotent."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection
from django.urls import reverse

from annotate.models import Assignment, AuditEvent, Membership, Project, Ranking, RankingTask
from tests.annotate.known_orders import answer, as_known, make_known_tasks
from tests.annotate.ranking_page import check_counts, held, opened, order, submit, undo, url
from tests.conftest import make_task, signed_in

pytestmark = pytest.mark.django_db


@pytest.fixture
def practising(project):
    """A project whose annotators practise on two tasks of three, and need 70 %."""
    Project.objects.update(practice_tasks=2, practice_threshold=70)
    project.refresh_from_db()
    make_task(project, "Real?")
    make_known_tasks(project, 3, purpose="practice")
    return project


def member_of(user):
    return Membership.objects.select_related("project").get(user=user)


def decide(alice, user, action):
    path = reverse("member_pause", args=[member_of(user).project.slug, member_of(user).pk])
    return signed_in(alice).post(path, {"action": action}, follow=True).content.decode()


def begun(user, project):
    return signed_in(user).get(f"{url(project)}?begin").content.decode()


def test_practice_explains_itself_before_the_first_task(practising, bob):
    page = opened(bob, practising).content.decode()
    assert "First, some practice" in page
    assert "there are 2 whose best order is already known" in page
    assert 'id="ranking"' not in page
    page = begun(bob, practising)
    assert "Practice 1 of 2" in page
    assert 'id="ranking"' in page
    assert 'data-act="undo"' not in page
    assert 'data-act="skip"' not in page
    # Once there is a draft, it is gone on with at once.
    Assignment.objects.update(draft={"places": [["A"]]})
    assert "Practice 1 of 2" in opened(bob, practising).content.decode()


def test_feedback_shows_the_known_order_beside_theirs_and_enter_goes_on(practising, bob):
    begun(bob, practising)
    assignment = held(bob)
    right = as_known(assignment)
    best, second, third, last = (place[0] for place in right)
    page = submit(bob, assignment, [second], [best], [third, last]).content.decode()
    assert "Practice 1 of 2" in page
    assert "2 of 6 pairs are ordered otherwise" in page
    assert f"You put {second} above {best}; {best} is better." in page
    assert f"You tied {third} and {last}; {third} is better." in page
    assert page.count("tied</span>") == 1
    assert "Because 0." in page
    assert "75 % so far; 70 % are needed" in page
    assert f'href="{url(practising)}?begin" data-go-on' in page
    assert not Assignment.objects.filter(state="leased").exists()
    assert "Practice 2 of 2" in opened(bob, practising).content.decode()
    check_counts()


def test_whoever_passes_is_qualified_and_goes_on_with_real_tasks(practising, bob):
    answer(bob, practising)
    page = answer(bob, practising).content.decode()
    assert "Practice passed." in page
    assert "You ordered 100 % as known" in page
    assert member_of(bob).qualified_at
    event = AuditEvent.objects.get(verb="member.qualified")
    assert event.details == {"reason": "practice", "percent": 100.0, "tasks": 2, "needed": 70}
    response = opened(bob, practising)
    assert response.context["task"]["assignment"].task.purpose == "ranking"
    # What was practised cannot be taken back.
    assert response.context["undo_token"] is None
    token = Ranking.objects.latest("pk").token
    assert undo(bob, practising, token).status_code == 409
    check_counts()


def test_whoever_does_not_pass_is_paused_until_an_admin_lets_them_try_again(practising, alice, bob):
    answer(bob, practising)
    page = answer(bob, practising, right=False).content.decode()
    assert "Practice is over, and not passed yet" in page
    assert member_of(bob).pause_reason == "practice"
    assert "Ranking is paused for you" in opened(bob, practising).content.decode()
    old = Ranking.objects.earliest("pk")
    assert "is given tasks again" in decide(alice, bob, "resume")
    page = opened(bob, practising).content.decode()
    assert "Practice once more" in page
    assert not Ranking.objects.current().exists()
    # The first attempt's submission, sent again, changes nothing.
    replay = signed_in(bob).post(
        url(practising, "submit", old.assignment),
        {"token": str(old.token), "verdict": "ranked", "places": '[["A"], ["B"], ["C"], ["D"]]'},
    )
    assert (replay.status_code, replay.json()["code"]) == (409, "taken_back")
    answer(bob, practising)
    answer(bob, practising)
    assert member_of(bob).qualified_at
    assert Ranking.objects.count() == 4
    check_counts()


def test_an_admin_qualifies_by_hand(practising, alice, bob):
    begun(bob, practising)
    assert "need not practise" in decide(alice, bob, "qualify")
    assert opened(bob, practising).context["task"]["assignment"].task.purpose == "ranking"
    assert "has passed practice already" in decide(alice, bob, "qualify")
    check_counts()
    event = AuditEvent.objects.get(verb="member.qualified")
    assert (event.actor, event.details["reason"]) == (alice, "admin")


def test_qualifying_whoever_failed_ends_their_pause(practising, alice, bob):
    answer(bob, practising, right=False)
    answer(bob, practising, right=False)
    decide(alice, bob, "qualify")
    member = member_of(bob)
    assert (member.paused_at, member.pause_reason) == (None, "")
    assert opened(bob, practising).context["task"]["assignment"].task.purpose == "ranking"


def test_practice_that_is_asked_for_later_comes_after_the_task_at_hand(practising, bob):
    Project.objects.update(practice_tasks=0)
    make_task(practising, "Another?")
    opened(bob, practising)
    assignment = held(bob)
    Project.objects.update(practice_tasks=2)
    page = submit(bob, assignment, ["A"], ["B"], ["C"], ["D"])
    assert "First, some practice" in page.content.decode()
    assert held(bob).task.purpose == "practice"
    check_counts()


def test_admins_skip_practice(practising, alice):
    assert opened(alice, practising).context["task"]["assignment"].task.purpose == "ranking"


def test_without_practice_tasks_nobody_is_blocked_and_the_admin_is_told(project, alice, bob):
    Project.objects.update(practice_tasks=3)
    make_task(project)
    assert opened(bob, project).context["task"]["assignment"].task.purpose == "ranking"
    home = signed_in(alice).get(reverse("project", args=[project.slug])).content.decode()
    assert "Add practice tasks" in home
    page = signed_in(alice).get(reverse("known_tasks", args=[project.slug])).content.decode()
    assert "no practice tasks yet" in page


def test_fewer_practice_tasks_than_asked_for_are_all_that_is_done(practising, bob):
    Project.objects.update(practice_tasks=10)
    for number in range(3):
        assert f"Practice {number + 1} of 3" in begun(bob, practising)
        answer(bob, practising)
    assert member_of(bob).qualified_at


def test_a_practice_task_that_leaves_meanwhile_does_not_leave_anybody_in_between(practising, bob):
    answer(bob, practising)
    RankingTask.objects.filter(purpose="practice").exclude(submitted=1).update(state="closed")
    assert opened(bob, practising).context["task"]["assignment"].task.purpose == "ranking"
    assert member_of(bob).qualified_at


def test_practice_is_neither_skipped_nor_hidden_behind_a_task_that_was_lost(practising, bob):
    begun(bob, practising)
    refused = signed_in(bob).post(url(practising, "skip", held(bob)))
    assert refused.status_code == 422
    assert "not skipped" in refused.json()["message"]
    assert held(bob).task.purpose == "practice"


def test_a_reported_practice_task_is_left_out(practising, bob):
    begun(bob, practising)
    first = held(bob).task
    response = signed_in(bob).post(url(practising, "flag", held(bob)), {"reason": "no_sense"})
    assert response.status_code == 200
    assert held(bob).task != first
    assert "Practice 1 of 2" in begun(bob, practising)


def test_reporting_all_of_practice_does_not_pass_it(practising, alice, bob):
    begun(bob, practising)
    for _ in range(3):
        response = signed_in(bob).post(url(practising, "flag", held(bob)), {"reason": "no_sense"})
        assert response.status_code == 200
    assert not Assignment.objects.filter(annotator=bob, state="leased").exists()
    assert member_of(bob).pause_reason == "practice"
    decide(alice, bob, "qualify")
    opened(bob, practising)
    assert held(bob).task.purpose == "ranking"


def test_the_same_submission_twice_gives_the_same_feedback(practising, bob):
    begun(bob, practising)
    assignment = held(bob)
    places = as_known(assignment)
    pages = [submit(bob, assignment, *places) for _ in range(2)]
    assert [page.status_code for page in pages] == [200, 200]
    assert pages[0].content == pages[1].content
    other = submit(bob, assignment, *places[::-1])
    assert (other.status_code, other.json()["code"]) == (409, "already_submitted")
    assert Ranking.objects.get().accuracy == 1
    check_counts()


def test_the_last_submission_sent_again_still_says_that_practice_is_passed(practising, bob):
    answer(bob, practising)
    opened(bob, practising)
    assignment = held(bob)
    for _ in range(2):
        page = submit(bob, assignment, *as_known(assignment))
        assert "Practice passed." in page.content.decode()
    assert AuditEvent.objects.filter(verb="member.qualified").count() == 1


def test_practice_that_lies_behind_somebody_is_not_submitted_any_more(practising, alice, bob):
    begun(bob, practising)
    assignment = held(bob)
    decide(alice, bob, "qualify")
    refused = submit(bob, assignment, *as_known(assignment))
    assert (refused.status_code, refused.json()["code"]) == (409, "task_closed")
    opened(bob, practising)
    draft = {"token": str(assignment.token), "draft": {"places": []}}
    refused = signed_in(bob).post(url(practising, "draft", assignment), draft, content_type="application/json")
    assert refused.status_code == 409
    # A lapsed practice task does not come back either.
    assert held(bob).task.purpose == "ranking"


def test_all_bad_is_answered_in_practice_too(practising, bob):
    begun(bob, practising)
    page = submit(bob, held(bob), verdict="all_bad").content.decode()
    assert "is not the known answer" in page
    assert "0 % so far" in page


def test_practice_does_not_hide_what_the_form_refuses(practising, bob):
    begun(bob, practising)
    refused = submit(bob, held(bob), ["A"], ["B"])
    assert refused.status_code == 422
    assert not Ranking.objects.exists()


def test_worked_examples_are_practice_tasks_that_do_not_lie_ahead(practising, alice, bob, rita):
    path = reverse("guidelines", args=[practising.slug])
    for user in (alice, rita):
        page = signed_in(user).get(path, headers={"HX-Request": "true"}).content.decode()
        assert page.count("<details>") == 3
        assert "Because 2." in page
        assert page.index("practice 0? Answer 1.") < page.index("practice 0? Answer 4.")
    page = signed_in(bob).get(path).content.decode()
    assert "Because 2." in page
    assert "Because 0." not in page
    answer(bob, practising)
    page = signed_in(bob).get(path).content.decode()
    assert "Because 0." in page
    assert "Because 1." not in page


@pytest.mark.django_db(transaction=True)
def test_two_tabs_submit_one_practice_task_once(practising, bob):
    begun(bob, practising)
    assignment = held(bob)
    data = order(assignment, *as_known(assignment))

    def post(_):
        try:
            return signed_in(bob).post(url(practising, "submit", assignment), data).status_code
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(post, range(4))) == [200] * 4
    assert Ranking.objects.count() == 1
    check_counts()
