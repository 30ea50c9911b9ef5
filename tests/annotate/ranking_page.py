"""What the tests of the ranking page post, and what must hold afterwards."""

import json
from datetime import timedelta

from django.utils import timezone

from annotate.models import Assignment, RankingTask
from annotate.services.assignments import expire_leases
from tests.conftest import signed_in


def url(project, action="", assignment=None):
    path = f"/projects/{project.slug}/rank"
    if assignment is not None:
        path += f"/{assignment.pk}"
    return f"{path}/{action}" if action else path


def opened(user, project):
    """What the person sees: their held assignment after opening the page."""
    response = signed_in(user).get(url(project))
    assert response.status_code == 200
    return response


def held(user):
    return Assignment.objects.get(annotator=user, state="leased")


def order(assignment, *places, verdict="ranked", **more):
    return {"token": str(assignment.token), "verdict": verdict, "places": json.dumps(list(places)), **more}


def submit(user, assignment, *places, **more):
    return signed_in(user).post(url(assignment.project, "submit", assignment), order(assignment, *places, **more))


def undo(user, project, token):
    """Take back the ranking that was submitted with this token."""
    return signed_in(user).post(url(project, "undo"), {"token": str(token)})


def check_counts():
    """Every task's counts agree with its assignments."""
    for task in RankingTask.objects.all():
        states = list(task.assignments.values_list("state", flat=True))
        assert (task.leased, task.submitted) == (states.count("leased"), states.count("submitted"))


def lapse(assignment):
    Assignment.objects.filter(pk=assignment.pk).update(lease_until=timezone.now() - timedelta(seconds=1))
    assert expire_leases() == 1
