"""Rows of a table in a text file: CSV and TSV as spreadsheets and pandas write them, with the standard library's csv.

The first line names the columns. A cell that begins with a quotation mark may hold line ends and the separator, and a
quotation mark in it is doubled. Many .tsv files quote nothing and hold single quotation marks; where a file makes no
sense as a quoted one, all its marks are text.
"""

import csv
import io

SEPARATORS = {".tsv": "\t", ".csv": ",;\t"}  # a spreadsheet writes ; where the comma is the decimal point


def rows_of(text: str, ending: str, path: object) -> list[tuple[str, dict[str, str]]]:
    """(where it stands, {column: cell}) of every row that is not empty.

    ending: .csv or .tsv.   path: for the ValueError, which names the line.
    """
    head = text[: text.find("\n") + 1] or text
    separator = max(SEPARATORS[ending], key=head.count)
    try:
        lines = _read(text, separator, csv.QUOTE_MINIMAL)
    except csv.Error as error:
        if ending == ".csv":
            raise ValueError(f"{path} is not complete CSV: {error}; is a quotation mark not closed?") from None
        lines = None
    if ending == ".tsv" and (lines is None or any("\t" in cell and "\n" in cell for _, row in lines for cell in row)):
        lines = _read(text, separator, csv.QUOTE_NONE)  # such a cell has swallowed rows
    if not lines:
        return []
    (_, names), *rows = lines
    names = [name.strip() for name in names]
    if len(set(names)) < len(names):
        raise ValueError(f"line 1 of {path} names a column twice: {', '.join(names)[:100]}")
    if wrong := next(((where, row) for where, row in rows if len(row) != len(names)), None):
        raise ValueError(f"{wrong[0]} of {path} has {len(wrong[1])} columns; the first line names {len(names)}")
    return [(f"{where} of {path}", dict(zip(names, row))) for where, row in rows]


def _read(text: str, separator: str, quoting: int) -> list[tuple[str, list[str]]]:
    """(line, cells) of the rows that hold anything."""
    csv.field_size_limit(max(csv.field_size_limit(), len(text) + 1))  # of one cell: a book, if need be
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, quoting=quoting, strict=True)
    rows, line = [], 1
    for row in reader:
        if any(cell.strip() for cell in row):
            rows.append((f"line {line}", row))
        line = reader.line_num + 1
    return rows
