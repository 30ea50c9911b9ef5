import hashlib
import re
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from annotate.models import AuditEvent, Invitation, Membership, User
from annotate.views import members
from tests.conftest import PASSWORD, make_user, signed_in

pytestmark = pytest.mark.django_db
STRONG = "a tide comes in twice"
LINK = re.compile(r'value="http://testserver(/join/[^"]+)"')


def invite(alice, project, *, role="annotator", days=7, max_uses=1, note="") -> str:
    """The link's path, as the members page shows it this once."""
    data = {"role": role, "days": days, "max_uses": max_uses, "note": note}
    page = signed_in(alice).post(f"/projects/{project.slug}/invitations", data).content.decode()
    found = LINK.search(page)
    assert found
    return found[1]


def membership(user, project):
    return Membership.objects.filter(project=project, user=user).first()


def sign_up(client, link, username="dora", email="", password=STRONG):
    client.get(link)
    data = {"username": username, "email": email, "password1": password, "password2": password}
    return client.post("/join", data, follow=True)


def test_a_link_is_shown_once_and_stored_as_its_hash_alone(project, alice):
    link = invite(alice, project, note="The second class")
    token = link.removeprefix("/join/")
    stored = Invitation.objects.get()
    assert stored.token_hash == hashlib.sha256(token.encode()).hexdigest()
    assert token not in str(Invitation.objects.values())
    assert token not in str(AuditEvent.objects.values())
    page = signed_in(alice).get(f"/projects/{project.slug}/members").content.decode()
    assert "The second class" in page
    assert token not in page


def test_whoever_is_signed_in_joins_in_the_link_s_role(project, alice, charlie):
    client = signed_in(charlie)
    opened = client.get(invite(alice, project, role="researcher"), follow=True)
    assert "You join as charlie" in opened.content.decode()
    assert opened.request["PATH_INFO"] == "/join"
    assert membership(charlie, project) is None
    joined = client.post("/join", follow=True)
    assert joined.request["PATH_INFO"] == f"/projects/{project.slug}/"
    assert "Your role: Researcher" in joined.content.decode()
    assert membership(charlie, project).role == "researcher"
    assert Invitation.objects.get().uses == 1
    assert AuditEvent.objects.get(verb="member.joined").details["role"] == "researcher"


def test_a_newcomer_makes_an_account_on_the_way_in(project, alice, client):
    page = sign_up(client, invite(alice, project), email="dora@example.org")
    assert page.request["PATH_INFO"] == f"/projects/{project.slug}/"
    dora = User.objects.get(username="dora")
    assert dora.email == "dora@example.org"
    assert dora.password.startswith("argon2")
    assert not dora.is_staff
    assert membership(dora, project).role == "annotator"


def test_whoever_has_an_account_signs_in_and_is_back_at_the_invitation(project, alice, charlie, client):
    page = client.get(invite(alice, project), follow=True).content.decode()
    assert 'href="/accounts/login/?next=/join"' in page
    login = {"login": "charlie", "password": PASSWORD, "next": "/join"}
    back = client.post("/accounts/login/", login, follow=True)
    assert "You join as charlie" in back.content.decode()
    client.post("/join")
    assert membership(charlie, project).role == "annotator"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"username": "bob"}, "already exists"),
        ({"username": "BOB"}, "already exists"),
        ({"username": "bob@example.org"}, "has no @"),
        ({"username": "do ra"}, "valid username"),
        ({"password": "12345"}, "too short"),
        ({"password": "password123"}, "too common"),
        ({"email": "Bob@Example.org"}, "An account has this address already"),
        ({"email": "nowhere"}, "valid email"),
    ],
)
def test_it_refuses_an_impossible_account_and_the_link_is_not_used(project, alice, client, given, words):
    page = sign_up(client, invite(alice, project), **given)
    assert words in page.content.decode()
    assert Invitation.objects.get().uses == 0
    assert User.objects.count() == 3


@pytest.mark.parametrize("role", ["annotator", "admin"])
def test_a_link_neither_raises_nor_lowers_a_role(project, alice, bob, rita, role):
    link = invite(alice, project, role=role)
    for user, mine in ((bob, "annotator"), (rita, "researcher"), (alice, "admin")):
        client = signed_in(user)
        assert "a member already" in client.get(link, follow=True).content.decode()
        assert "a member already" in client.post("/join").content.decode()
        assert membership(user, project).role == mine
    assert Invitation.objects.get().uses == 0


def test_whoever_was_removed_does_not_come_back_by_a_link(project, alice, bob):
    link = invite(alice, project, role="admin")
    signed_in(alice).post(f"/projects/{project.slug}/members/{membership(bob, project).pk}", {"action": "remove"})
    client = signed_in(bob)
    assert "were removed" in client.get(link, follow=True).content.decode()
    assert "were removed" in client.post("/join").content.decode()
    assert membership(bob, project).left_at
    assert Invitation.objects.get().uses == 0


def without_secrets(response):
    return re.sub(r'(csrfmiddlewaretoken" value=|X-CSRFToken": )"[^"]*"', "", response.content.decode())


def test_links_that_do_not_work_look_the_same_whatever_the_reason(project, alice, charlie, client):
    def spoil(**changes):
        link = invite(alice, project)
        Invitation.objects.filter(pk=Invitation.objects.latest("pk").pk).update(**changes)
        return link

    archived = invite(alice, project)
    now = timezone.now()
    links = ["/join/unknown", spoil(expires_at=now - timedelta(seconds=1)), spoil(revoked_at=now), spoil(uses=1)]
    project.state = "archived"
    project.save()
    for person in (client, signed_in(charlie)):
        answers = [person.get(link, follow=True) for link in [*links, archived]]
        assert {answer.status_code for answer in answers} == {404}
        assert len({without_secrets(answer) for answer in answers}) == 1
        assert "This link does not work" in answers[0].content.decode()
        assert person.post("/join").status_code == 404
    assert membership(charlie, project) is None


def test_without_a_link_there_is_no_way_in_and_sign_up_stays_closed(project, client):
    assert client.get("/join").status_code == 404
    data = {"username": "dora", "password1": STRONG, "password2": STRONG}
    assert client.post("/join", data).status_code == 404
    client.post("/accounts/signup/", data)
    assert not User.objects.filter(username="dora").exists()


def test_a_revoked_link_says_so_to_admins_and_works_for_nobody(project, alice, charlie):
    link = invite(alice, project, max_uses=5)
    revoke = f"/projects/{project.slug}/invitations/{Invitation.objects.get().pk}/revoke"
    for _twice in range(2):
        page = signed_in(alice).post(revoke, follow=True).content.decode()
    assert "Revoked" in page
    assert revoke not in page
    assert signed_in(charlie).get(link, follow=True).status_code == 404
    assert AuditEvent.objects.filter(verb="invitation.revoked").count() == 1


@pytest.mark.parametrize("change", [{"action": "remove"}, {"role": "annotator"}])
def test_whoever_is_no_admin_any_more_has_no_link_to_come_back_by(project, alice, bob, client, change):
    Membership.objects.filter(user=bob).update(role="admin")
    theirs, mine = invite(bob, project, role="admin"), invite(alice, project)
    member = membership(bob, project)
    signed_in(alice).post(f"/projects/{project.slug}/members/{member.pk}", change)
    assert sign_up(client, theirs).status_code == 404
    assert sign_up(client, mine).status_code == 200
    assert AuditEvent.objects.get(verb="invitation.revoked").actor == alice


def test_a_link_that_still_works_is_listed_however_many_came_after_it(project, alice, monkeypatch):
    monkeypatch.setattr(members, "LINKS", 2)
    working = invite(alice, project, note="The old one")
    for _ in range(3):
        invite(alice, project, note="A later one")
        Invitation.objects.filter(note="A later one").update(revoked_at=timezone.now())
    page = signed_in(alice).get(f"/projects/{project.slug}/members")
    assert [link.note for link in page.context["invitations"]] == ["The old one", "A later one"]
    assert working not in page.content.decode()


def test_the_list_says_how_each_link_stands(project, alice, charlie):
    client = signed_in(charlie)
    client.get(invite(alice, project))
    client.post("/join")
    invite(alice, project)
    Invitation.objects.filter(uses=0).update(expires_at=timezone.now())
    invite(alice, project, max_uses=3)
    shown = signed_in(alice).get(f"/projects/{project.slug}/members").context["invitations"]
    assert [invitation.state.label for invitation in shown] == ["Open", "Expired", "Used up"]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"days": 31}, "less than or equal to 30"),
        ({"days": 0}, "greater than or equal to 1"),
        ({"max_uses": 1001}, "less than or equal to 1000"),
        ({"role": "owner"}, "not one of the available choices"),
        ({"role": "admin", "max_uses": 2}, "works for one person"),
    ],
)
def test_it_refuses_an_impossible_link_at_its_field(project, alice, data, words):
    sent = {"role": "annotator", "days": 7, "max_uses": 1, "note": "", **data}
    page = signed_in(alice).post(f"/projects/{project.slug}/invitations", sent).content.decode()
    assert words in page
    assert not Invitation.objects.exists()


def test_an_admin_reaches_only_the_links_of_the_project(project, alice, charlie):
    link = invite(alice, project)
    elsewhere = type(project).objects.create(slug="winds", name="Winds", created_by=charlie)
    Membership.objects.create(project=elsewhere, user=charlie, role="admin")
    revoke = f"/projects/winds/invitations/{Invitation.objects.get().pk}/revoke"
    assert signed_in(charlie).post(revoke).status_code == 404
    assert signed_in(charlie).get(link, follow=True).status_code == 200


def test_it_refuses_to_be_asked_too_often(project, client):
    statuses = [client.get(f"/join/guess-{number}").status_code for number in range(61)]
    assert set(statuses[:60]) == {302}
    assert statuses[60] == 429
    assert "Too many attempts" in client.get("/join/guess").content.decode()


def test_a_link_s_secret_reaches_neither_the_log_nor_the_next_site(project, alice, client, caplog, monkeypatch):
    link = invite(alice, project)
    assert client.get(link).headers["Referrer-Policy"] == "same-origin"
    client.raise_request_exception = False
    Invitation.objects.all().delete()
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE django_session RENAME TO gone")
    assert client.get(link).status_code == 500
    assert "/join/… failed" in caplog.text
    assert link.removeprefix("/join/") not in caplog.text


@pytest.mark.django_db(transaction=True)
def test_a_link_for_three_lets_exactly_three_of_twelve_in_at_once(project, alice):
    link = invite(alice, project, max_uses=3)
    clients = [signed_in(make_user(f"person-{number}")) for number in range(12)]
    for client in clients:
        client.get(link)

    def accept(client):
        try:
            return client.post("/join").status_code
        finally:
            connection.close()

    with ThreadPoolExecutor(12) as threads:
        statuses = sorted(threads.map(accept, clients))
    assert statuses == [302] * 3 + [404] * 9
    assert Invitation.objects.get().uses == 3
    assert project.memberships.count() == 6
