"""Figures come with their data: what code plots -> the chart beside the picture. One execution draws them all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from belljar import Limits, Outcome
from belljar.execution import CHART, Result
from belljar.guest import charts_model
from sandbox.conftest import open_sandbox

HEAD = """
import datetime as dt, json
import matplotlib.pyplot as plt, numpy as np, pandas as pd
plt.rcParams.update({'figure.figsize': (2, 1.5), 'figure.dpi': 40})
df = pd.DataFrame({'kind': ['a', 'a', 'b', 'b'], 'hue': ['u', 'v'] * 2, 'v': [1., 2., 3., 4.], 'w': [1., 4., 9., 16.]})
"""
SIDES = {"x_label": None, "y_label": None, "x_unit": None, "y_unit": None}


def points(*series: tuple[str, list[list[Any]]]) -> dict[str, Any]:
    return {"elements": [{"label": label, "points": pairs} for label, pairs in series]}


def bars(*rows: tuple[str, str, float]) -> dict[str, Any]:
    return {"elements": [{"label": label, "group": group, "value": value} for label, group, value in rows]}


def box(label: str, *numbers: float, outliers: list[float]) -> dict[str, Any]:
    names = ("min", "first_quartile", "median", "third_quartile", "max")
    return {"label": label, **dict(zip(names, numbers, strict=True)), "outliers": outliers}


def slices(**angles: float) -> dict[str, Any]:
    return {"elements": [{"label": label, "angle": angle, "radius": 1.0} for label, angle in angles.items()]}


UNKNOWN = {"type": "unknown", "title": None, "elements": []}
BOXES = [box("A", 1.0, 2.0, 3.0, 4.0, 4.0, outliers=[20.0]), box("B", 2.0, 2.5, 3.0, 3.5, 4.0, outliers=[])]
GROUPS = bars(("p", "A", 1.0), ("q", "A", 2.0), ("p", "B", 3.0), ("q", "B", 4.0))
BAR_HUES = bars(("a", "u", 1.0), ("b", "u", 3.0), ("a", "v", 2.0), ("b", "v", 4.0))

# Name -> code that draws a figure, fields of its chart. None: it has none.
FIGURES: dict[str, tuple[str, Mapping[str, Any] | None]] = {
    "line": (
        "plt.plot([1, 2, 3], [5, float('nan'), 6], label='a'); plt.plot([1, 2], [4, 3]); plt.axhline(4)\n"
        "plt.title('T'); plt.xlabel('Time (s)'); plt.ylabel('Mass [kg]')\n"
        "plt.xticks([1, 2]); plt.yticks([4], ['four'])",
        {
            "type": "line",
            "title": "T",
            "x_label": "Time (s)",
            "y_label": "Mass [kg]",
            "x_unit": "s",
            "y_unit": "kg",
            "x_ticks": [1.0, 2.0],
            "x_tick_labels": ["1", "2"],
            "x_scale": "linear",
            "y_ticks": [4.0],
            "y_tick_labels": ["four"],
            "y_scale": "linear",
            **points(("a", [[1.0, 5.0], [2.0, None], [3.0, 6.0]]), ("Line 1", [[1.0, 4.0], [2.0, 3.0]])),
        },
    ),
    "line of names": (
        "plt.plot(['x', 'y'], [1, 2])",
        {"x_scale": "categorical", "x_tick_labels": ["x", "y"], **points(("Line 0", [["x", 1.0], ["y", 2.0]]))},
    ),
    "line of dates": (
        "plt.plot([dt.date(2024, 1, 1), dt.date(2024, 1, 2)], [1, 2]); plt.xticks([dt.date(2024, 1, 2)])",
        {
            "x_scale": "datetime",
            "x_ticks": ["2024-01-02T00:00:00"],
            **points(("Line 0", [["2024-01-01T00:00:00", 1.0], ["2024-01-02T00:00:00", 2.0]])),
        },
    ),
    "line of moments in a time zone": (
        "plt.plot(pd.date_range('2024-01-01 00:00:00.5', periods=1, tz='Europe/Berlin'), [1])",
        points(("Line 0", [["2023-12-31T23:00:00.500+00:00", 1.0]])),
    ),
    "log": ("plt.loglog([1, 10], [1, 10])", {"type": "line", "x_scale": "log", "y_scale": "log"}),
    "symlog": ("plt.plot([1, 2]); plt.yscale('symlog')", {"y_scale": "symlog"}),
    "a threshold alone": ("plt.plot([1, 2], [5, 5])", points(("Line 0", [[1.0, 5.0], [2.0, 5.0]]))),
    "error bars": (
        "plt.errorbar([1, 2], [3, 4], yerr=.5, capsize=3, label='E')",
        {"type": "line", **points(("E", [[1.0, 3.0], [2.0, 4.0]]))},
    ),
    "line with a band": (
        "plt.plot([1, 3, 2]); plt.fill_between(range(3), [0, 1, 0], [2, 4, 3])",
        {"type": "line", **points(("Line 0", [[0.0, 1.0], [1.0, 3.0], [2.0, 2.0]]))},
    ),
    "scatter": (
        "plt.scatter([1, 2], [3, 4], label='dots')",
        {"type": "scatter", **SIDES, **points(("dots", [[1.0, 3.0], [2.0, 4.0]]))},
    ),
    "markers": ("plt.plot([1, 2], [3, 4], 'o')", {"type": "scatter"}),
    "bars": ("plt.bar(['x', 'y'], [3, 3])", {"type": "bar", **bars(("x", "Group 0", 3.0), ("y", "Group 0", 3.0))}),
    "bars at years": ("plt.bar([2020, 2021], [1, -2])", bars(("2020", "Group 0", 1.0), ("2021", "Group 0", -2.0))),
    "bars at dates": ("plt.bar([dt.date(2024, 1, 1)], [1])", bars(("2024-01-01T00:00:00", "Group 0", 1.0))),
    "lying bars": (
        "plt.barh(['x', 'y'], [3, 4]); plt.xlabel('value (EUR)'); plt.ylabel('place')",
        {
            "x_label": "place",
            "y_label": "value (EUR)",
            "x_unit": None,
            "y_unit": "EUR",
            **bars(("x", "Group 0", 3.0), ("y", "Group 0", 4.0)),
        },
    ),
    "grouped bars": (
        "at = np.arange(2); plt.bar(at - .2, [1, 2], .4, label='A'); plt.bar(at + .2, [3, 4], .4, label='B')\n"
        "plt.xticks(at, ['p', 'q'])",
        GROUPS,
    ),
    "stacked bars": (
        "plt.bar(['p', 'q'], [1, 2], label='A'); plt.bar(['p', 'q'], [3, 4], bottom=[1, 2], label='B', yerr=1)",
        GROUPS,
    ),
    "histogram": (
        "plt.hist([1, 1, 2, 4], bins=[1, 2.5, 4])",
        {"type": "bar", **bars(("1 to 2.5", "Group 0", 3.0), ("2.5 to 4", "Group 0", 1.0))},
    ),
    "pie": (
        "plt.pie([1, 2, 3], labels=['a', 'b', 'c'], autopct='%.0f')",
        {"type": "pie", "title": None, **slices(a=60.0, b=120.0, c=180.0)},
    ),
    "pie with a legend": ("plt.pie([1, 3]); plt.legend(['u', 'v'])", slices(u=90.0, v=270.0)),
    "boxes": (
        "plt.boxplot([[1, 2, 3, 4, 20], [2, 3, 4]], tick_labels=['A', 'B'])",
        {"type": "box_and_whisker", **SIDES, "elements": BOXES},
    ),
    "notched boxes that lie": (
        "plt.boxplot([[1, 2, 3, 4, 20], [2, 3, 4]], tick_labels=['A', 'B'], orientation='horizontal', notch=True,\n"
        "            patch_artist=True, showmeans=True); plt.xlabel('v')",
        {"type": "box_and_whisker", "x_label": None, "y_label": "v", "elements": BOXES},
    ),
    "boxes without caps": (
        "plt.boxplot([[1, 2, 3, 4, 20], [2, 3, 4]], tick_labels=['A', 'B'], showcaps=False)",
        {"elements": BOXES},
    ),
    "a box of one value": ("plt.boxplot([[1, 1]])", {"elements": [box("1", 1.0, 1.0, 1.0, 1.0, 1.0, outliers=[])]}),
    "subplots": (
        "f, (a, b, c) = plt.subplots(1, 3); a.plot([1]); b.bar(['q'], [1]); b.set_title('t'); f.suptitle('S')",
        {"type": "superchart", "title": "S"},
    ),
    "two scales": ("plt.bar(['x'], [1]); plt.gca().twinx().plot(['x'], [2])", {"type": "superchart"}),
    "picture": ("plt.imshow(np.eye(2)); plt.colorbar()", UNKNOWN),
    "polar": ("plt.polar([1, 2], [1, 2])", UNKNOWN),
    "3-D": ("plt.figure().add_subplot(projection='3d').plot([1, 2], [1, 2], [1, 2])", UNKNOWN),
    "nothing": ("plt.axes()", None),
    "too many points": ("plt.plot(np.arange(10_001))", None),
    "what breaks it": ("plt.plot([1, 2]); plt.gca().get_legend = lambda: 1 / 0", None),
    "what warns": (
        "plt.plot([1, 2]); plt.gca().get_legend = lambda: __import__('warnings').warn('seen')",
        {"type": "line"},
    ),
    "seaborn bars": ("import seaborn as sns; sns.barplot(df, x='kind', y='v', hue='hue')", BAR_HUES),
    "seaborn lines": (
        "sns.lineplot(df, x='v', y='w', hue='kind')",
        {"type": "line", **points(("a", [[1.0, 1.0], [2.0, 4.0]]), ("b", [[3.0, 9.0], [4.0, 16.0]]))},
    ),
    "seaborn points": (
        "sns.scatterplot(df, x='v', y='w', hue='hue')",
        {"type": "scatter", **points(("u", [[1.0, 1.0], [3.0, 9.0]]), ("v", [[2.0, 4.0], [4.0, 16.0]]))},
    ),
    "seaborn boxes": (
        "sns.boxplot(df, x='kind', y='v')",
        {
            "elements": [
                box("a", 1.0, 1.25, 1.5, 1.75, 2.0, outliers=[]),
                box("b", 3.0, 3.25, 3.5, 3.75, 4.0, outliers=[]),
            ]
        },
    ),
    "seaborn histogram": ("sns.histplot([1., 2., 4.], bins=1, kde=True)", {"type": "bar"}),
    "seaborn violins": ("sns.violinplot(df, x='kind', y='v')", UNKNOWN),
    "pandas lines": (
        "pd.Series([1, 2], index=pd.date_range('2024-01-01', periods=2)).plot()",
        {"x_scale": "datetime", **points(("Line 0", [["2024-01-01T00:00:00", 1.0], ["2024-01-02T00:00:00", 2.0]]))},
    ),
    "pandas bars": (
        "df.groupby('kind')[['v']].sum().plot.bar()",
        {"x_label": "kind", **bars(("a", "v", 3.0), ("b", "v", 7.0))},
    ),
    "plotly": (
        "import plotly.express as px\n"
        "bundle = lambda f: {'application/vnd.plotly.v1+json': json.loads(f.to_json()), 'image/png': b'PNG'}\n"
        "display(bundle(px.bar(df, x='kind', y='v', color='hue', title='a<br>b')), raw=True)",
        {"type": "bar", "title": "a b", "x_label": "kind", "y_label": "v", **BAR_HUES},
    ),
    "plotly lines": (
        "display(bundle(px.line(df.head(2), x='v', y='w')), raw=True)",
        {"type": "line", "x_ticks": [], "x_scale": "linear", **points(("Line 0", [[1.0, 1.0], [2.0, 4.0]]))},
    ),
    "plotly, as people show it": (
        "px.line(df.head(2), x='v', y='w').show()",
        points(("Line 0", [[1.0, 1.0], [2.0, 4.0]])),
    ),
    "plotly pie": ("display(bundle(px.pie(df, names='kind', values='v')), raw=True)", slices(a=108.0, b=252.0)),
    "plotly boxes": (
        "display(bundle(px.box(df, x='kind', y='v')), raw=True)",
        {"elements": [box("a", 1.0, 1.0, 1.5, 2.0, 2.0, outliers=[]), box("b", 3.0, 3.0, 3.5, 4.0, 4.0, outliers=[])]},
    ),
    "plotly histogram": ("display(bundle(px.histogram(df, x='v')), raw=True)", UNKNOWN),
    "altair": (
        "import altair as alt; as_is = alt.Chart(df)\nas_is.mark_bar().encode(x='kind', y='v', color='hue').display()",
        {"type": "bar", "x_label": "kind", **BAR_HUES},
    ),
    "altair sums": (
        "display(as_is.mark_bar().encode(y='kind', x='sum(v)'))",
        {"x_label": "kind", "y_label": "Sum of v", **bars(("a", "Group 0", 3.0), ("b", "Group 0", 7.0))},
    ),
    "altair bins": ("display(as_is.mark_bar().encode(x=alt.X('v').bin(), y='count()'))", UNKNOWN),
}
MARK = "=== "


@pytest.fixture(scope="module")
def shown() -> dict[str, Result]:
    """Name of a figure -> what came of it."""
    lines = [HEAD]
    for name, (code, _) in FIGURES.items():
        lines += [f"display({MARK + name!r})", code, "plt.show()", "plt.close('all')"]
    with open_sandbox("full", limits=Limits(timeout=90)) as sandbox:
        execution = sandbox.run("\n".join(lines))
    assert (execution.outcome, execution.error) == (Outcome.OK, None)
    assert "seen" not in execution.stderr
    found: dict[str, Result] = {}
    name = ""
    for result in execution.results:
        if (result.text or "").startswith(f"'{MARK}"):
            name = (result.text or "")[1:-1].removeprefix(MARK)
        else:
            assert name not in found, f"{name} gave more than one result"
            found[name] = result
    return found


def test_figures_come_with_their_data(shown: dict[str, Result]) -> None:
    figures = {"image/png", "text/html", "application/vnd.plotly.v1+json"}
    assert {name for name, result in shown.items() if not figures & set(result.data)} == set()
    wanted = {name: fields for name, (_, fields) in FIGURES.items()}
    assert {name: of_interest(shown[name].chart, fields) for name, fields in wanted.items()} == wanted


def of_interest(chart: Any, fields: Mapping[str, Any] | None) -> Any:
    """Those fields of a chart."""
    return chart if chart is None or fields is None else {name: chart.get(name) for name in fields}


def test_charts_are_json_that_everybody_reads(shown: dict[str, Result]) -> None:
    for result in shown.values():
        json.dumps(result.chart, allow_nan=False)


def test_the_charts_of_a_figure_with_several(shown: dict[str, Result]) -> None:
    assert [(part["type"], part["title"]) for part in shown["subplots"].chart["elements"]] == [
        ("line", None),
        ("bar", "t"),
    ]
    assert [part["type"] for part in shown["two scales"].chart["elements"]] == ["bar", "line"]


# A type of chart -> the fields of E2B's model (its Python SDK 2.11 raises KeyError without them), and of its elements.
FIELDS = {
    "line": (
        "x_label y_label x_unit y_unit x_ticks x_tick_labels x_scale y_ticks y_tick_labels y_scale",
        "label points",
    ),
    "bar": ("x_label y_label x_unit y_unit", "label group value"),
    "pie": ("", "label angle radius"),
    "box_and_whisker": (
        "x_label y_label x_unit y_unit",
        "label min first_quartile median third_quartile max outliers",
    ),
    "superchart": ("", "type title elements"),
    "unknown": ("", ""),
}
FIELDS["scatter"] = FIELDS["line"]


def test_a_chart_has_the_fields_of_its_type_and_no_others(shown: dict[str, Result]) -> None:
    charts = [result.chart for result in shown.values() if result.chart is not None]
    assert {chart["type"] for chart in charts} == set(FIELDS)
    for chart in charts:
        own, of_elements = (set(words.split()) for words in FIELDS[chart["type"]])
        assert set(chart) == {"type", "title", "elements"} | own
        for element in chart["elements"]:
            assert of_elements <= set(element) if chart["type"] == "superchart" else of_elements == set(element)


def test_the_name_of_the_type_is_the_same_on_both_sides() -> None:
    assert charts_model.CHART == CHART


def test_a_picture_goes_before_its_data() -> None:
    """Where there is no room for both."""
    with open_sandbox("full", limits=Limits(timeout=60, results_bytes=200 << 10)) as sandbox:
        execution = sandbox.run(
            f"{HEAD}plt.plot(np.random.rand(9_000))\nplt.show()\ndisplay({{{CHART!r}: ['x' * 100_000]}}, raw=True)"
        )
    picture, note = execution.results
    assert (bool(picture.png), picture.chart) == (True, None)
    assert "left out" in (note.text or "")
