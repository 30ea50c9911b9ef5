"""Who made a ranking, and what was current at a time, in SQL: shared by what freezes rankings and what only lists them."""

# Who left the project has no membership any more, but keeps one name in all of its exports.
PSEUDONYM = "coalesce(m.pseudonym, 'left-' || substr(md5({project} || ':' || {person}), 1, 8))"
# Of a ranking `r`, with `m` its annotator's membership and `i` its row in annotate_importedranking, both outer joins.
RANKED_BY = (
    "CASE WHEN r.role = 'imported' THEN coalesce(nullif(i.annotator, ''), 'imported') ELSE "
    + PSEUDONYM.format(project="r.project_id", person="r.annotator_id")
    + " END"
)
# What was current at the given time, though it was revised or taken back since.
CURRENT = "r.project_id = %(project)s AND r.created_at <= %(as_of)s AND (r.is_current OR r.withdrawn_at > %(as_of)s)"
WRITTEN_BY_THEN = "d.created_at <= %(as_of)s AND (d.withdrawn_at IS NULL OR d.withdrawn_at > %(as_of)s)"
