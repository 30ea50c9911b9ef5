"""Which rankings and ideal answers a dataset version takes, in SQL."""

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

# A decision is no further opinion: it takes the place of a task's rankings, or is left out; it never counts as a ranking of its
# prompt, and how fast a reviewer was says nothing.
SELECTION = f"""
    WITH judged AS (
        SELECT r.id, r.uid, r.task_id, r.annotator_id, r.role, t.prompt_id, CASE
            WHEN NOT %(known_tasks)s AND t.purpose <> 'ranking' THEN 'known_tasks'
            WHEN %(decisions)s = 'raw' AND r.role = 'adjudicator' THEN 'decisions'
            WHEN r.created_at < %(since)s THEN 'since'
            WHEN r.created_at >= %(until)s THEN 'until'
            WHEN {PSEUDONYM.format(project="r.project_id", person="r.annotator_id")} = ANY(%(exclude_annotators)s)
                THEN 'exclude_annotators'
            WHEN r.role = 'annotator' AND r.seconds < %(min_seconds)s THEN 'min_seconds'
            WHEN %(exclude_all_bad)s AND r.verdict = 'all_bad' THEN 'exclude_all_bad'
            WHEN cardinality(%(tags)s::text[]) > 0 AND NOT p.tags::text[] && %(tags)s::text[] THEN 'tags'
        END AS dropped_by
        FROM annotate_ranking r
        JOIN annotate_rankingtask t ON t.id = r.task_id
        JOIN annotate_prompt p ON p.id = t.prompt_id
        LEFT JOIN annotate_membership m ON m.project_id = r.project_id AND m.user_id = r.annotator_id
        WHERE {CURRENT}
    ), enough AS (
        SELECT *, dropped_by IS NULL AND %(min_rankings)s > 1 AND count(*) FILTER (
            WHERE dropped_by IS NULL AND role <> 'adjudicator'
        ) OVER (PARTITION BY prompt_id) < %(min_rankings)s AS too_few
        FROM judged
    ), counted AS (
        SELECT id, uid, prompt_id, annotator_id, role, CASE
            WHEN too_few THEN 'min_rankings'
            WHEN dropped_by IS NULL AND %(decisions)s = 'decided' AND role <> 'adjudicator'
                AND bool_or(role = 'adjudicator' AND dropped_by IS NULL AND NOT too_few) OVER (PARTITION BY task_id)
            THEN 'decisions' ELSE dropped_by
        END AS dropped_by
        FROM enough
    )
"""  # noqa: S608 - built of constants
DROPPED = SELECTION + "SELECT coalesce(dropped_by, ''), count(*) FROM counted GROUP BY 1"  # noqa: S608
KEPT = f"""{SELECTION}
    SELECT k.id, octet_length(p.messages::text) + (
        SELECT coalesce(sum(octet_length(c.text) + octet_length(c.reasoning)), 0)
        FROM annotate_rankedcompletion rc JOIN annotate_completion c ON c.id = rc.completion_id
        WHERE rc.ranking_id = k.id
    ) + CASE WHEN %(ideal_on_top)s AND k.role = 'annotator' THEN (
        SELECT coalesce(max(octet_length(c.text) + octet_length(c.reasoning)), 0)
        FROM annotate_completion c JOIN annotate_demonstration d ON d.completion_id = c.id
        WHERE c.prompt_id = k.prompt_id AND d.author_id = k.annotator_id
    ) ELSE 0 END
    FROM counted k JOIN annotate_prompt p ON p.id = k.prompt_id
    WHERE k.dropped_by IS NULL ORDER BY k.uid
"""  # noqa: S608 - built of constants
DETAILS = f"""
    SELECT r.id, r.uid, p.content_hash, p.messages::text, r.verdict,
        {PSEUDONYM.format(project="r.project_id", person="r.annotator_id")},
        r.role, r.reasons, r.comment, r.seconds, r.created_at
    FROM annotate_ranking r
    JOIN annotate_rankingtask t ON t.id = r.task_id
    JOIN annotate_prompt p ON p.id = t.prompt_id
    LEFT JOIN annotate_membership m ON m.project_id = r.project_id AND m.user_id = r.annotator_id
    WHERE r.id = ANY(%s) ORDER BY r.uid
"""  # noqa: S608 - built of constants
RANKED = """
    SELECT rc.ranking_id, rc.rank, c.text, c.reasoning, s.name, rc.ratings::text
    FROM annotate_rankedcompletion rc
    JOIN annotate_completion c ON c.id = rc.completion_id
    JOIN annotate_source s ON s.id = c.source_id
    WHERE rc.ranking_id = ANY(%s) ORDER BY rc.ranking_id, c.id
"""
# The last ideal answer to a ranking's prompt by the annotator who made the ranking.
IDEAL = f"""
    SELECT DISTINCT ON (r.id) r.id, c.text, c.reasoning, s.name
    FROM annotate_ranking r
    JOIN annotate_rankingtask t ON t.id = r.task_id
    JOIN annotate_completion c ON c.prompt_id = t.prompt_id
    JOIN annotate_demonstration d ON d.completion_id = c.id AND d.author_id = r.annotator_id
    JOIN annotate_source s ON s.id = c.source_id
    WHERE r.id = ANY(%(rankings)s) AND r.role = 'annotator' AND {WRITTEN_BY_THEN}
    ORDER BY r.id, d.id DESC
"""  # noqa: S608 - built of constants
WRITTEN = f"""
    SELECT c.content_hash, p.content_hash, p.messages::text, c.text, c.reasoning,
        {PSEUDONYM.format(project="d.project_id", person="d.author_id")}, d.created_at,
        octet_length(p.messages::text) + octet_length(c.text) + octet_length(c.reasoning)
    FROM annotate_demonstration d
    JOIN annotate_completion c ON c.id = d.completion_id
    JOIN annotate_prompt p ON p.id = c.prompt_id
    LEFT JOIN annotate_membership m ON m.project_id = d.project_id AND m.user_id = d.author_id
    WHERE d.project_id = %(project)s AND {WRITTEN_BY_THEN}
        AND d.created_at >= %(since)s AND d.created_at < %(until)s
        AND NOT {PSEUDONYM.format(project="d.project_id", person="d.author_id")} = ANY(%(exclude_annotators)s)
        AND (cardinality(%(tags)s::text[]) = 0 OR p.tags::text[] && %(tags)s::text[])
    ORDER BY p.content_hash, c.content_hash, d.id
"""  # noqa: S608 - built of constants
