"""`WORK/index.html`: how far the training is, with its curves. One file that asks for nothing else."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hcpl_kernel.pipeline.progress import spoken
from hcpl_kernel.report.markup import Markup, element, join, text
from hcpl_kernel.runtime.atomic import atomic_open
from tools.train.road.state import RoadState, TrainingCurve

SECONDS = 15.0
"""Between two versions of the page."""
WIDTH, HEIGHT, MARGIN = 320, 120, 34
SHOWN_FINDINGS = 200
STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:0 auto;max-width:72rem;padding:1rem;color:#1c1c1c;background:#fff}
h1{font-size:1.4rem;margin:.2rem 0}h2{font-size:1.1rem;margin:1.6rem 0 .4rem}h3{font-size:.95rem;margin:.4rem 0}
table{border-collapse:collapse;font-size:.85rem}th,td{padding:.15rem .6rem;text-align:right;border-bottom:1px solid #ddd}
th:first-child,td:first-child,.steps th,.steps td{text-align:left}
.wide{overflow-x:auto}.curves{display:flex;flex-wrap:wrap;gap:1rem}
pre{overflow-x:auto}svg{max-width:100%}
figure{margin:0;max-width:100%;box-sizing:border-box;padding:.5rem;border:1px solid #ddd;border-radius:4px}
svg text{font-size:10px;fill:#555}
.line{fill:none;stroke:#0a5c8a;stroke-width:1.5}.chance{fill:none;stroke:#999;stroke-dasharray:4 3}.axis{stroke:#bbb}
.best{fill:#b3430f}
.note{padding:.5rem .8rem;background:#fff3d6;border-left:4px solid #d99a00}.bad{background:#fde4e0;border-color:#b3261e}
.done{color:#1d6b2f}.running{color:#0a5c8a;font-weight:600}.waiting{color:#777}
"""


@contextmanager
def refreshed(state: RoadState) -> Iterator[None]:
    """Write the page now, every `SECONDS` while the block runs, and at its end, which it tells."""
    stop = threading.Event()

    def work() -> None:
        while not stop.wait(SECONDS):
            write_page(state)

    write_page(state)
    thread = threading.Thread(target=work, daemon=True, name="status page")
    thread.start()
    try:
        yield
    except BaseException as error:
        state.failure = str(error) or type(error).__name__
        raise
    finally:
        stop.set()
        thread.join()
        state.running = False
        write_page(state)


def write_page(state: RoadState) -> Path:
    """Write the page of a state.

    Raises:
        OSError: if it cannot be written.
    """
    curves = state.curves()
    body = join(
        element("h1", f"Training on {state.data}"),
        element("p", f"Recipe {state.recipe}. {state.split.text}."),
        *_notes(state, curves),
        element("h2", "Steps"),
        _steps(state),
        element("h2", "Curves") if curves else None,
        element("div", *(_figure(curve) for curve in curves), class_="curves"),
        *_per_class(state, curves),
        *_selection(state),
        element("h2", "Projection"),
        element("pre", Markup(text_lines(state.projection.text(None)))),
        *_findings(state),
    )
    refresh = element("meta", http_equiv="refresh", content="30") if state.running else None
    head = join(
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width,initial-scale=1"),
        refresh,
        element("title", f"Training on {state.data}"),
        element("style", Markup(STYLE)),
    )
    path = state.work / "index.html"
    with atomic_open(path) as file:
        file.write(f"<!doctype html>{element('html', element('head', head), element('body', body), lang='en')}\n")
    return path


def text_lines(lines: str) -> str:
    """Several lines as HTML for a `pre`."""
    return "\n".join(text(line) for line in lines.splitlines())


def steps_of(number: int) -> str:
    """A number of steps in words."""
    return "1 step" if number == 1 else f"{number} steps"


def _notes(state: RoadState, curves: Sequence[TrainingCurve]) -> list[Markup]:
    written = time.strftime("%Y-%m-%d %H:%M:%S")
    notes = []
    if state.failure is not None:
        notes.append(element("p", f"Ended: {state.failure}. The same command goes on from here.", class_="note bad"))
    elif state.running:
        notes.append(element("p", f"Running; written {written}. If that is long ago, it was ended: give the command again."))
    else:
        notes.append(element("p", f"Finished {written}: {state.weights}", class_="done"))
    for curve in curves:
        if curve.is_doubtful:
            step, figures = curve.measured[-1]
            said = f"{curve.name}: after {steps_of(step)} not better than chance (mean AP {figures['mean']:.3f})"
            notes.append(
                element("p", f"{said}. Early this may be; later look at labels, pixel size and loss.", class_="note")
            )
    return notes


def _steps(state: RoadState) -> Markup:
    rows = []
    for phase, steps in list(state.phases.items()):
        for step in list(steps):
            mark = step.job.mark if step.job.is_done else {}
            if mark:
                how, said = "done", spoken(float(str(mark.get("seconds", 0))))
            elif state.is_at_work(step):
                how, said = "running", ""
            else:
                how, said = "waiting", ""
            cells = [element("td", phase), element("td", step.job.name), element("td", how, class_=how), element("td", said)]
            rows.append(element("tr", *cells))
    head = element("tr", *(element("th", name, scope="col") for name in ("phase", "step", "state", "took")))
    table = element("table", element("thead", head), element("tbody", *rows), class_="steps")
    return element("div", table, class_="wide")


def _figure(curve: TrainingCurve) -> Markup:
    last = curve.losses[-1][0] if curve.losses else 0
    of = f" of {curve.steps}" if curve.steps else ""
    drawn = [element("h3", f"{curve.name}: step {last}{of}"), _chart("loss", curve.losses, curve.steps)]
    if curve.measured:
        first, best = curve.measured[0], curve.best
        points = tuple((step, figures["mean"]) for step, figures in curve.measured)
        drawn.append(
            _chart("validation mean AP", points, curve.steps, chance=first[1]["chance"], best=best[0] if best else None)
        )
        said = f"first, after {steps_of(first[0])}: {first[1]['mean']:.3f} (chance {first[1]['chance']:.3f})"
        drawn.append(
            element("figcaption", f"{said}; best, which is kept: {best[1]['mean']:.3f} after {best[0]}" if best else said)
        )
    return element("figure", *drawn)


def _chart(
    name: str, points: Sequence[tuple[int, float]], steps: int, chance: float | None = None, best: int | None = None
) -> Markup:
    """A line over the steps, with the highest and lowest value written beside it."""
    if not points:
        return element("p", f"{name}: nothing yet")
    values = [value for _, value in points] + ([chance] if chance is not None else [])
    low, high = min(values), max(values)
    wide = max(steps, points[-1][0], 1)

    def place(step: float, value: float) -> str:
        x = MARGIN + (WIDTH - MARGIN - 6) * step / wide
        y = HEIGHT - 14 - (HEIGHT - 24) * ((value - low) / (high - low) if high > low else 0.5)
        return f"{x:.1f} {y:.1f}"

    drawn = [element("path", d=f"M{MARGIN} {HEIGHT - 13}H{WIDTH - 6}", class_="axis")]
    if chance is not None:
        drawn.append(element("path", d=f"M{place(0, chance)}L{place(wide, chance)}", class_="chance"))
    drawn.append(element("path", d="M" + "L".join(place(step, value) for step, value in points), class_="line"))
    for step, value in points:
        if len(points) == 1 or step == best:
            x, y = place(step, value).split()
            drawn.append(element("circle", cx=x, cy=y, r=3, class_="best"))
    drawn += [element("text", f"{high:.3g}", x=2, y=12), element("text", f"{low:.3g}", x=2, y=HEIGHT - 14)]
    drawn += [
        element("text", name, x=MARGIN, y=HEIGHT - 2),
        element("text", wide, x=WIDTH - 6, y=HEIGHT - 2, text_anchor="end"),
    ]
    said = f"{name} from {points[0][1]:.3g} after {steps_of(points[0][0])} to {points[-1][1]:.3g} after {points[-1][0]}"
    return element("svg", *drawn, viewBox=f"0 0 {WIDTH} {HEIGHT}", width=WIDTH, role="img", aria_label=said)


def _per_class(state: RoadState, curves: Sequence[TrainingCurve]) -> list[Markup]:
    """The average precision of each class: a row for each class, a column for each training, its course drawn small."""
    shown = [curve for curve in curves if curve.best is not None]
    classes = sorted({int(name[6:]) for curve in shown for name in curve.measured[-1][1] if name.startswith("class_")})
    if not classes:
        return []
    rows = []
    for k in classes:
        cells = []
        for curve in shown:
            course = [(step, figures.get(f"class_{k}", 0.0)) for step, figures in curve.measured]
            cells.append(element("td", _spark(course), f" {curve.best[1].get(f'class_{k}', 0.0):.2f}" if curve.best else ""))
        rows.append(element("tr", element("th", state.classes[k], scope="row"), *cells))
    head = element("tr", element("th", "class"), *(element("th", curve.name, scope="col") for curve in shown))
    table = element("table", element("thead", head), element("tbody", *rows))
    caption = (
        "On the validation images, by image labels: an image is scored by its best cell. The number is the kept state's."
    )
    return [
        element("h2", "Average precision of each class"),
        element("p", caption),
        element("div", table, class_="wide"),
    ]


def _spark(course: Sequence[tuple[int, float]]) -> Markup:
    """A small line from 0 to 1."""
    wide = max(1, len(course) - 1)
    points = [f"{2 + 44 * i / wide:.1f} {14 - 12 * value:.1f}" for i, (_, value) in enumerate(course)]
    line = element("path", d="M" + "L".join(points if len(points) > 1 else points * 2), class_="line")
    return element("svg", line, viewBox="0 0 48 16", width=48, height=16, aria_hidden="true")


def _selection(state: RoadState) -> list[Markup]:
    networks = state.selection()
    if not networks:
        return []
    rows = []
    for entry in networks:
        weight = f"{float(str(entry['weight'])):.3f}" if entry["kept"] else "left out"
        value = "-" if entry["value"] is None else f"{float(str(entry['value'])):.4f}"
        rows.append(element("tr", element("th", entry["name"], scope="row"), element("td", value), element("td", weight)))
    head = element("tr", *(element("th", name, scope="col") for name in ("network", "mAP of held-out images", "weight")))
    note = "Networks and weights were chosen by these fields, so the figures flatter them."
    return [
        element("h2", "Held-out fields"),
        element("p", note),
        element("table", element("thead", head), element("tbody", *rows)),
    ]


def _findings(state: RoadState) -> list[Markup]:
    if not state.findings:
        return [element("h2", "The data"), element("p", "No findings.")]
    shown = [element("li", finding) for finding in state.findings[:SHOWN_FINDINGS]]
    more = len(state.findings) - len(shown)
    rest = [element("li", f"and {more} more in check.json")] if more else []
    return [element("h2", f"The data: {len(state.findings)} findings"), element("ul", *shown, *rest)]
