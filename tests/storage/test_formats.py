"""Tables as other programs write and read them."""

import codecs
import csv
import datetime
import zipfile

import openpyxl
import pytest

from lib.errors import UsageError
from lib.storage.formats import (
    WRITTEN,
    check_rows,
    format_line,
    number_or_text,
    open_table,
    parse_line,
    read_named_rows,
    read_rows,
    table_kind,
)
from lib.storage.tables import read_lines, read_table

ROWS = [["FILE", "CATEGORY"], ["a/Séché 1.jpg", "Séché"], ["b.jpg", "Moss"]]
LINES = "FILE\tCATEGORY\na/Séché 1.jpg\tSéché\nb.jpg\tMoss\n"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.tsv", "tsv"),
        ("a.CSV", "csv"),
        ("a.jsonl", "jsonl"),
        ("a", "tsv"),
        ("b.csv/a.txt", "tsv"),
        ("a.XLSX", "xlsx"),
    ],
)
def test_the_ending_says_how_a_table_is_written(name, kind):
    assert table_kind(name) == kind


@pytest.mark.parametrize("ending", [".json", ".parquet", ".csv.gz", ".xls", ".ods", ".jpg", ".html"])
def test_what_is_not_written_is_refused(ending):
    with pytest.raises(UsageError, match=f"name a table {WRITTEN}"):
        table_kind(f"a{ending}")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"])
@pytest.mark.parametrize("separator", "\t,;")
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_encodings_separators_and_line_ends(tmp_path, encoding, separator, end):
    text = LINES.replace("\t", separator)
    for whole in (text, text[:-1], text + "\n", text.replace("b.jpg", "\n \nb.jpg")):
        (tmp_path / "t").write_bytes(whole.replace("\n", end).encode(encoding))
        assert [values for _, values in read_rows(str(tmp_path / "t"))] == ROWS


def test_a_line_has_its_number(tmp_path):
    for end in (b"\n", b"\r\n"):
        (tmp_path / "t").write_bytes(end.join([b"A\tB", b"", b"1\t2", b"\t", b"3\t4"]))
        assert list(read_rows(str(tmp_path / "t"))) == [(1, ["A", "B"]), (3, ["1", "2"]), (5, ["3", "4"])]


def test_rows_by_the_names_of_their_columns(tmp_path):
    path = tmp_path / "t"
    path.write_text("A\tB\n1\t2\n\n3\n4\t5\t6\n")
    columns, rows = read_named_rows(str(path), ("B", "A"))
    assert columns == ["A", "B"]
    assert list(rows) == [(2, {"A": "1", "B": "2"}), (4, {"A": "3"}), (5, {"A": "4", "B": "5"})]
    for needed, named, words in ((("A", "C"), None, "A and C"), (("C",), "C, once", "C, once")):
        with pytest.raises(UsageError, match=f"t needs a header with the columns {words}\\.$"):
            read_named_rows(str(path), needed, named)
    path.write_text("")
    columns, rows = read_named_rows(str(path))
    assert columns == [] and list(rows) == []


def test_a_guessed_encoding_is_told_with_a_word_of_it(tmp_path, caplog):
    caplog.set_level("INFO")
    (tmp_path / "t").write_bytes(LINES.encode("cp1252"))
    list(read_rows(str(tmp_path / "t")))
    (line,) = caplog.messages
    assert "t is not in UTF-8, so it is read as Windows-1252, such as “Séché”" in line


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (LINES.encode() + b"c.jpg\tS\xe9ch\xe9\n", "in UTF-8, but for some bytes, first in line 4; save it as UTF-8"),
        (b"FILE\tCATEGORY\n\x81\x8d\tx\n", "neither in UTF-8 nor in UTF-16 or Windows-1252; save it as UTF-8"),
        (b'FILE;CATEGORY\na.jpg;Fern\n"b.jpg;Fern\nc.jpg;Fern\n', "line 4: unexpected end of data"),
        (b'FILE\tCATEGORY\r\n"b" c.jpg\tFern\r\n', "line 2: .* expected after"),
        (b"\x1f\x8b\x08\0\0", "it is compressed"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1", "a workbook of the old kind; save it as .xlsx or .csv"),
        (b"PAR1\0\0", "it is a Parquet file"),
        (b"PK\x03\x04 and no more", "no whole workbook"),
        (b"\xff\xfe\0", "can't be read as a table"),
    ],
)
def test_what_is_no_table_is_said(tmp_path, content, words):
    (tmp_path / "t.tsv").write_bytes(content)
    with pytest.raises(UsageError, match=f"t.tsv .*{words}"):
        list(read_rows(str(tmp_path / "t.tsv")))


def test_quotes_of_other_programs(tmp_path):
    """R quotes all text, Excel what has a comma or quotes, pandas what has quotes; this toolkit nothing."""
    written = {
        "R": '"FILE"\t"CATEGORY"\n"a b.jpg"\t"Moss"\n',
        "Excel": 'FILE\tCATEGORY\r\n"a, b.jpg"\tMoss\r\n',
        "pandas": 'FILE\tCATEGORY\n"a ""b"".jpg"\tMoss\n',
        "LibreOffice": 'FILE;CATEGORY\n"a;b.jpg";Moss\n',
        "Excel's separator": "sep=;\r\nFILE;CATEGORY\r\na,b.jpg;Moss\r\n",
        "ours": 'FILE\tCATEGORY\n"a" b".jpg\tMoss\n',
    }
    names = ["a b.jpg", "a, b.jpg", 'a "b".jpg', "a;b.jpg", "a,b.jpg", '"a" b".jpg']
    for name, text in zip(names, written.values()):
        (tmp_path / "t").write_bytes(text.encode())
        assert [values for _, values in read_rows(str(tmp_path / "t"))] == [["FILE", "CATEGORY"], [name, "Moss"]]


def test_a_workbook_of_somebody_elses(tmp_path):
    workbook = openpyxl.Workbook()
    sheet = workbook.active
    sheet["A1"], sheet["B1"], sheet["C1"] = "INDEX", "LABEL ", "SEEN"
    sheet["A3"], sheet["B3"], sheet["C3"] = 0, "007", True
    sheet["A4"], sheet["B4"], sheet["C4"] = 1.0, 0.25, datetime.date(2020, 1, 2)
    sheet["B5"] = "NA"
    sheet["F4"].font = openpyxl.styles.Font(bold=True)  # empty, and so not a column
    workbook.create_sheet("more")["A1"] = "not read"
    workbook.save(tmp_path / "t.tsv")  # whatever its name
    assert list(read_rows(str(tmp_path / "t.tsv"))) == [
        (1, ["INDEX", "LABEL", "SEEN"]),
        (3, ["0", "007", "TRUE"]),
        (4, ["1", "0.25", "2020-01-02 00:00:00"]),
        (5, ["", "NA", ""]),
    ]


def test_a_workbook_that_would_fill_the_memory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("lib.storage.formats.SMALL_BYTES", 1 << 20)
    with zipfile.ZipFile(tmp_path / "t.xlsx", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/worksheets/sheet1.xml", bytes(20 << 20))
    with pytest.raises(UsageError, match="would take 20,971,520 bytes"):
        list(read_rows(str(tmp_path / "t.xlsx")))
    workbook = openpyxl.Workbook()
    workbook.active.append(["FILE"])
    workbook.save(tmp_path / "t.xlsx")
    entities = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10 if n else "x" * 100}">' for n in range(9))
    with zipfile.ZipFile(tmp_path / "t.xlsx") as whole, zipfile.ZipFile(tmp_path / "u.xlsx", "w") as spoiled:
        for member in whole.infolist():
            content = whole.read(member).decode()
            if member.filename.endswith("sheet1.xml"):
                content = f"<!DOCTYPE x [{entities}]>" + content.replace("FILE", "&e8;")
            spoiled.writestr(member.filename, content)
    with pytest.raises(UsageError, match="no whole workbook"):
        list(read_rows(str(tmp_path / "u.xlsx")))
    assert list(read_table(str(tmp_path / "t.xlsx"))) == [["FILE"]]


COLUMNS = ["MODEL", "FILE", "PREDICTION", "PROBABILITY"]
VALUES = ["-m", '=HYPERLINK("http://x","y").jpg', "Séché", 0.25]


def write(path, *rows):
    with open_table(str(path), COLUMNS) as add:
        for values in rows:
            add(format_line(table_kind(str(path)), COLUMNS, values))


@pytest.mark.parametrize("ending", ["tsv", "csv", "jsonl", "xlsx"])
def test_what_is_written_is_read_again_and_continued(tmp_path, ending):
    path = str(tmp_path / f"t.{ending}")
    write(path, VALUES, ["m", "'-a,b.jpg", "+", 0.5])
    columns, *rows = read_table(path)
    assert columns == COLUMNS
    assert rows[0][:3] == VALUES[:3] and rows[1][:3] == ["m", "'-a,b.jpg", "+"]
    assert [float(row[3]) for row in rows] == [0.25, 0.5]
    _, *lines = read_lines(path)
    assert [name for name, _ in lines] == [VALUES[1].encode(), b"'-a,b.jpg"]
    values = parse_line(ending, lines[0][1])
    assert list(values.values() if isinstance(values, dict) else values)[:3] == VALUES[:3]


def test_a_csv_is_as_excel_wants_it(tmp_path):
    write(tmp_path / "t.csv", VALUES, ["m", "-12.5", "Moss", 0.5])
    assert (tmp_path / "t.csv").read_bytes().startswith(codecs.BOM_UTF8 + b"MODEL,FILE,")
    with open(tmp_path / "t.csv", encoding="utf-8-sig", newline="") as file:
        _, first, second = csv.reader(file)
    assert first == ["'-m", "'" + VALUES[1], "Séché", "0.2500"] and second == ["m", "-12.5", "Moss", "0.5000"]


def test_a_workbook_has_texts_and_numbers_and_no_formula(tmp_path):
    write(tmp_path / "t.xlsx", VALUES, ["m", "\x01", "Moss", 0.5])
    sheet = openpyxl.load_workbook(tmp_path / "t.xlsx").active
    header, first, second = sheet.iter_rows()
    assert [cell.value for cell in header] == COLUMNS and sheet.freeze_panes == "A2"
    assert [cell.value for cell in first] == VALUES and first[1].data_type == "s" and first[1].quotePrefix
    assert first[3].number_format == "0.0000" and second[1].value == "\ufffd"


def test_a_sheet_of_excels_ends_somewhere():
    check_rows("t.xlsx", 1_048_575)
    check_rows("t.csv", 1_048_576)
    with pytest.raises(UsageError, match="1,048,576 rows are more than a sheet of Excel's holds; name t.xlsx .tsv"):
        check_rows("t.xlsx", 1_048_576)


def test_a_table_that_can_not_be_finished_does_not_appear(tmp_path):
    for ending in ("csv", "xlsx"):
        with pytest.raises(RuntimeError), open_table(str(tmp_path / f"t.{ending}"), COLUMNS) as add:
            add(format_line(ending, COLUMNS, VALUES))
            raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_probabilities_are_numbers_whatever_their_comma():
    assert [number_or_text("PROBABILITY_Moss", text) for text in ("0.5", "0,5", "")] == [0.5, 0.5, ""]
    assert number_or_text("FILE", "0,5") == "0,5"


def test_tables_of_cases(shared):
    tables = shared / "cases" / "tables"
    for name, category in (("utf-16.txt", "Fern"), ("cp1252.txt", "Séché")):
        header, *rows = read_table(str(tables / name))
        assert header == ["FILE", "CATEGORY"] and ["folders/Fern/fern-20.jpg", category] in rows
    assert list(read_table(str(tables / "predictions-semicolon.csv"))) == [
        ["MODEL", "FILE", "PREDICTION", "PROBABILITY"],
        ["ConvNeXt-N", "lists/sheet-1.jpg", "Ordinary", "0,6421"],
    ]
