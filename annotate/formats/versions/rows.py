"""The columns of a dataset version's files; docs/architecture.md describes them."""

import pyarrow as pa

MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
COMPLETION = pa.struct([("completion", pa.string()), ("reasoning", pa.string()), ("source", pa.string())])
RATINGS = pa.list_(pa.struct([("criterion", pa.string()), ("rating", pa.int32())]))
TIME = pa.timestamp("us", tz="UTC")
RANKINGS = pa.schema(
    [
        ("ranking", pa.string()),
        ("prompt_id", pa.string()),
        ("prompt", MESSAGES),
        ("completions", pa.list_(COMPLETION)),
        ("ranks", pa.list_(pa.int32())),
        ("ratings", pa.list_(RATINGS)),
        ("verdict", pa.string()),
        ("annotator", pa.string()),
        ("role", pa.string()),
        ("weight", pa.float64()),
        ("reasons", pa.list_(pa.string())),
        ("comment", pa.string()),
        ("seconds", pa.float64()),
        ("created", TIME),
        ("split", pa.string()),
    ]
)
DEMONSTRATIONS = pa.schema(
    [
        ("demonstration", pa.string()),
        ("prompt_id", pa.string()),
        ("prompt", MESSAGES),
        ("completion", pa.string()),
        ("reasoning", pa.string()),
        ("annotator", pa.string()),
        ("created", TIME),
        ("split", pa.string()),
    ]
)
# Examples that something else made say where each comes from, as JSON.
MADE = DEMONSTRATIONS.append(pa.field("provenance", pa.string()))
