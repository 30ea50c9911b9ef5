import pytest
from django.db import DatabaseError, transaction
from django.db.models import ProtectedError

from annotate.models import AuditEvent, record

pytestmark = pytest.mark.django_db


def test_the_database_refuses_to_change_or_delete_an_entry(project, alice):
    record(alice, "project.created", project=project)
    for tamper in (lambda rows: rows.update(verb="nothing"), lambda rows: rows.delete()):
        with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
            tamper(AuditEvent.objects.all())
    assert AuditEvent.objects.get().verb == "project.created"


def test_what_the_log_speaks_of_is_kept(project, alice):
    record(alice, "project.created", project=project)
    with pytest.raises(ProtectedError):
        project.delete()
