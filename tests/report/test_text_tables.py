"""Tables for a terminal and for Markdown."""

from fires_exp.report.text_tables import markdown_table, text_table


def test_columns_line_up_and_no_line_ends_with_spaces():
    assert text_table(["", "a", "b"], [["µ é", "0x12", "1_000"], ["", "3 ", ""]]).splitlines() == [
        "        a      b",
        "----------------",
        "µ é  0x12  1_000",
        "       3",
    ]


def test_a_table_without_rows_is_its_header():
    assert text_table(["stage", "steps"], []) == "stage  steps\n------------"
    assert markdown_table(["stage", "steps"], []) == "| stage | steps |\n| --- | ---: |"


def test_numbers_are_printed_as_they_are_given():
    assert text_table(["", "x"], [["a", "1e5"], ["b", "007"]]).splitlines()[2:] == ["a  1e5", "b  007"]
