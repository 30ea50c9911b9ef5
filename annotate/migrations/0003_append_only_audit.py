from django.db import migrations

REFUSE = """
CREATE FUNCTION annotate_audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit log is append-only: % refused', TG_OP USING ERRCODE = 'restrict_violation';
END
$$;
CREATE TRIGGER audit_is_append_only BEFORE UPDATE OR DELETE ON annotate_auditevent
    FOR EACH ROW EXECUTE FUNCTION annotate_audit_is_append_only();
"""
ALLOW = """
DROP TRIGGER audit_is_append_only ON annotate_auditevent;
DROP FUNCTION annotate_audit_is_append_only();
"""


class Migration(migrations.Migration):
    # Tables are truncated between tests, which fires no row trigger.
    dependencies = [("annotate", "0002_quality")]
    operations = [migrations.RunSQL(REFUSE, ALLOW)]
