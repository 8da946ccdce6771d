"""Tables against values computed apart, and both of their forms read back."""

import csv
import io
import math
import statistics

from napari_metaqsm.evaluation.tables import Column, Spread, Table

VALUES = [12.25, 13.5, 19.0]
TABLE = Table(
    "kinds",
    "Kinds of cells",
    ["method", Column("NRMSE %"), Column("RMSE ppm", 4), "scans"],
    [("TKD", Spread.of(VALUES), 0.01234567, 3), ("L2, a|b", Spread.of([]), math.nan, 0)],
    note="Of nothing in particular.",
)


def test_a_spread_is_the_mean_and_the_deviation_of_a_sample():
    spread = Spread.of(VALUES)
    assert spread.mean == statistics.mean(VALUES)
    assert math.isclose(spread.deviation, statistics.stdev(VALUES))
    assert spread.count == 3


def test_one_value_has_no_deviation_and_none_has_no_mean():
    assert Spread.of([2.0])[0] == 2.0
    assert math.isnan(Spread.of([2.0]).deviation)
    assert math.isnan(Spread.of([]).mean)


def test_markdown_rounds_and_leaves_empty_what_is_no_number():
    title, _, head, line, first, second, *_, note, end = TABLE.markdown().split("\n")
    assert title == "## Kinds of cells"
    assert head == "| method | NRMSE % | RMSE ppm | scans |"
    assert line == "|---|---|---|---|"
    assert first == "| TKD | 14.9 ± 3.6 | 0.0123 | 3 |"
    assert second == "| L2, a/b |  |  | 0 |"
    assert note == "Of nothing in particular."
    assert end == ""


def test_csv_holds_all_digits_and_the_deviation_in_a_column_of_its_own():
    head, first, second = csv.reader(io.StringIO(TABLE.csv()))
    assert head == ["method", "NRMSE %", "NRMSE % SD", "RMSE ppm", "scans"]
    assert first[0] == "TKD"
    assert math.isclose(float(first[1]), statistics.mean(VALUES), rel_tol=1e-5)
    assert math.isclose(float(first[2]), statistics.stdev(VALUES), rel_tol=1e-5)
    assert first[3:] == ["0.0123457", "3"]
    assert second == ["L2, a|b", "", "", "", "0"]
