"""What the page says of a run that is watched while it optimises a reward: in a sentence, in two figures, and in what it wrote."""

from dataclasses import dataclass
from math import sqrt
from typing import Any

from django.utils.translation import gettext as _

from annotate.charts import Line, LineChart
from annotate.drawing import Interval, Point
from annotate.numbers import rounded
from training.models import Run
from training.recipes.arguments import METHODS
from training.services.events import Series

ROLE = "watchdog"
SHOWN = 4
Z = 1.96


@dataclass(frozen=True)
class Text:
    """What the policy wrote at one look, and what was said of it."""

    title: str
    text: str
    scores: str


@dataclass(frozen=True)
class Watched:
    """`texts` holds, for each shown prompt, its messages and what the policy wrote before, at the kept look and at the newest."""

    sentence: str
    has_watchdog: bool
    charts: list[LineChart]
    texts: list[tuple[Any, list[Text]]]


def watched(run: Run, series: list[Series]) -> Watched | None:
    """None for a run whose method is not watched."""
    if run.method not in METHODS or ROLE not in METHODS[run.method].inputs:
        return None
    looks = looks_of(series)
    has_watchdog = run.run_inputs.filter(role=ROLE).exists()
    return Watched(sentence_of(run, looks, has_watchdog=has_watchdog), has_watchdog, charts(looks), texts_of(run))


Looks = dict[int, dict[str, float]]


def looks_of(series: list[Series]) -> Looks:
    """step → name → value, in order of the steps."""
    looks: Looks = {}
    for item in series:
        if item.name.startswith("watch/"):
            for step, value in item.points:
                looks.setdefault(step, {})[item.name.removeprefix("watch/")] = value
    return {step: looks[step] for step in sorted(looks) if {"proxy", "kl", "kept_step"} <= looks[step].keys()}


def charts(looks: Looks) -> list[LineChart]:
    """The reward and the watchdog against the way that the policy has gone; how far the watchdog is below its best."""
    if len(looks) < 2:
        return []
    drawn = [_against_divergence(looks)]
    steps = [step for step, look in looks.items() if "fall" in look]
    if len(steps) > 1:
        drawn.append(_fall(looks, steps))
    return drawn


def _against_divergence(looks: Looks) -> LineChart:
    """Gao et al. (2022) draw scores over the square root of the divergence, along which they rise and fall as simple curves."""
    lines = []
    for name, title in (("proxy", _("Reward")), ("watchdog", _("Watchdog"))):
        told = [look for look in looks.values() if name in look]
        if told:
            start = told[0][name]
            points: list[Point] = [(sqrt(look["kl"]), look[name] - start) for look in told]
            spread = [Z * look.get(f"{name}_error", 0.0) for look in told]
            around: list[Interval | None] = [
                (y - half, y + half) if half else None for (_x, y), half in zip(points, spread, strict=True)
            ]
            lines.append(Line(title, tuple(points), tuple(around)))
    newest = list(looks.values())[-1]
    kept = looks.get(int(newest["kept_step"]))
    said = [
        _("%(name)s: %(gain)s since the start, after %(way)s.")
        % {"name": line.name, "gain": rounded(line.points[-1][1], 2), "way": rounded(line.points[-1][0], 2)}
        for line in lines
    ]
    if kept:
        said.append(
            _("The kept weights are those of step %(step)s, at %(way)s.")
            % {"step": int(newest["kept_step"]), "way": rounded(sqrt(kept["kl"]), 2)}
        )
    return LineChart(
        key="watch",
        title=_("What was gained on the way from the reference"),
        description=" ".join(said),
        lines=tuple(lines),
        x_name=_("√KL, nats per completion"),
        uprights=((sqrt(kept["kl"]), _("kept")),) if kept else (),
        whole=False,
        show_legend=True,
    )


def _fall(looks: Looks, steps: list[int]) -> LineChart:
    threshold = looks[steps[-1]].get("threshold")
    points = tuple((float(step), max(0.0, looks[step]["fall"])) for step in steps)
    highest = max(*(y for _x, y in points), threshold or 0.0, 1.0)
    return LineChart(
        key="watch-fall",
        title=_("How far the watchdog is below its best, in standard errors"),
        description=_("Newest look: %(fall)s. The run stops beyond %(threshold)s while the reward rises.")
        % {"fall": rounded(points[-1][1], 2), "threshold": "–" if threshold is None else rounded(threshold, 2)},
        lines=(Line(_("Watchdog"), points),),
        marks=((threshold, _("stops")),) if threshold is not None else (),
        x_name=_("step"),
        span=(0.0, highest * 1.05),
    )


def sentence_of(run: Run, looks: Looks, *, has_watchdog: bool) -> str:
    """Why it stopped, or how it stands, in one sentence; empty where there is nothing to say yet."""
    ended = run.result.get("watch")
    if isinstance(ended, dict):
        return _why_it_ended(ended)
    if run.arguments.get("watch_steps") == 0:
        return _("This run takes no look at itself: “Steps between looks” is 0.")
    if not looks:
        return _("The first look comes before the first step.") if run.is_active else ""
    step, newest = list(looks.items())[-1]
    values = {
        "step": step,
        "kept": int(newest["kept_step"]),
        "fall": rounded(newest.get("fall", 0.0), 1),
        "threshold": rounded(newest.get("threshold", 0.0), 1),
        "patience": run.arguments.get("patience"),
        "kl": rounded(newest["kl"], 1),
    }
    if not has_watchdog:
        return _("At step %(step)s the policy is %(kl)s nats from the reference.") % values
    if newest.get("fall", 0.0) <= 0:
        return _("At step %(step)s the watchdog is at its best.") % values
    if "threshold" not in newest:
        return (
            _(
                "At step %(step)s the watchdog is below its best of step %(kept)s; with so few looks none can stop the run."
            )
            % values
        )
    return (
        _(
            "At step %(step)s the watchdog is %(fall)s standard errors below its best of step %(kept)s; beyond %(threshold)s at %(patience)s looks in a row, while the reward rises, the run stops."
        )
        % values
    )


def _why_it_ended(ended: dict[str, Any]) -> str:
    values = {
        name: rounded(float(ended[name]), 2)
        for name in ("proxy_at_kept", "proxy_at_end", "watchdog_at_kept", "watchdog_at_end", "fall", "threshold")
        if isinstance(ended.get(name), int | float)
    }
    values |= {name: str(ended.get(name)) for name in ("step", "kept_step", "patience", "max_kl")}
    values["kl"] = rounded(float(ended.get("kl") or 0), 1)
    if ended.get("reason") == "over_optimised":
        return (
            _(
                "Stopped at step %(step)s: since step %(kept_step)s the reward rose from %(proxy_at_kept)s to %(proxy_at_end)s while the watchdog fell from %(watchdog_at_kept)s to %(watchdog_at_end)s, beyond its noise at %(patience)s looks in a row, so the policy had begun to exploit the reward. The weights of step %(kept_step)s are kept."
            )
            % values
        )
    if ended.get("reason") == "divergence":
        return (
            _(
                "Stopped at step %(step)s: the policy has moved %(kl)s nats from the reference, and %(max_kl)s are allowed. The weights of step %(kept_step)s are kept."
            )
            % values
        )
    if ended.get("has_watchdog"):
        return (
            _(
                "Ran to its last step, %(step)s: the watchdog did not fall beyond its noise. The weights of step %(kept_step)s, where it was at its best, are kept."
            )
            % values
        )
    return _("Ran to its last step, %(step)s, without a watchdog. The weights of step %(kept_step)s are kept.") % values


def texts_of(run: Run) -> list[tuple[Any, list[Text]]]:
    events = list(run.events.filter(kind="sample", data__has_key="kept").order_by("-offset")[:SHOWN])
    newest = [event for event in events if event.step == events[0].step]
    return [(event.data.get("prompt") or [], _texts(run, event.step, event.data)) for event in reversed(newest)]


def _texts(run: Run, step: int, data: dict[str, Any]) -> list[Text]:
    kept = data.get("kept_step")
    titles = {
        "before": _("Before, step 0"),
        "kept": _("Kept, step %(step)s") % {"step": kept},
        "after": (_("Now, step %(step)s") if run.is_active else _("At the end, step %(step)s")) % {"step": step},
    }
    # Where the kept look is the newest or the first, it is not shown twice.
    if kept == step:
        titles["after"] = _("Kept, step %(step)s") % {"step": kept}
        del titles["kept"]
    elif kept == 0:
        titles["before"] = _("Before and kept, step 0")
        del titles["kept"]
    if step == 0:
        del titles["after"]
        titles["before"] = _("Before, step 0")
    return [
        Text(title, str(data.get(name) or ""), _scores((data.get("scores") or {}).get(name) or {}))
        for name, title in titles.items()
    ]


def _scores(scores: dict[str, float]) -> str:
    if "watchdog" in scores:
        return _("Reward %(proxy)s, watchdog %(watchdog)s") % {
            name: rounded(value, 2) for name, value in scores.items()
        }
    return _("Reward %(proxy)s") % {"proxy": rounded(scores["proxy"], 2)} if "proxy" in scores else ""
