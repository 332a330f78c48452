"""Anybody's files: formats, mappings, rejects."""

from __future__ import annotations

import gzip
import json
import random
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shared.datasets import Columns, DatasetError, FileOptions, Reject, Row, accepted, load_files
from shared.domain import Action, Relation, User

NOW_MS = 1_700_000_000_000


def events_of(path: Path, *mapping: str, options: FileOptions | None = None) -> list:
    dataset = load_files({"events": path}, Columns.parse(mapping), options, now_ms=NOW_MS)
    return list(dataset.events())


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_a_csv_with_usual_names_needs_no_mapping(tmp_path):
    path = write(
        tmp_path / "log.csv",
        "user_id,item_id,action,value,timestamp\nu1,i1,like,,1600000000\nu2,i2,rating,3.5,1600000001\n",
    )
    rows = events_of(path)
    assert [(r.number, r.value.user_id, r.value.action, r.value.value, r.value.time_ms) for r in rows] == [
        (1, "u1", Action.LIKE, 0.0, 1600000000000),
        (2, "u2", Action.RATING, 3.5, 1600000001000),
    ]


def test_a_mapping_says_which_column_holds_what(tmp_path):
    path = write(tmp_path / "log.csv", "uid,sku,ts\n1,a,2020-05-06T07:08:09\n")
    (row,) = events_of(path, "user=uid,item=sku", "time=ts", options=FileOptions(action=Action.CLICK))
    expected_ms = round(datetime(2020, 5, 6, 7, 8, 9, tzinfo=UTC).timestamp() * 1000)
    assert (row.value.user_id, row.value.item_id, row.value.action, row.value.time_ms) == (
        "1",
        "a",
        Action.CLICK,
        expected_ms,
    )


def test_every_format_reads_the_same_events(tmp_path):
    csv = write(tmp_path / "a.csv", "user,item,value,time\nu,i,4,1600000000\nv,j,2,1600000060\n")
    tsv = write(tmp_path / "a.tsv", "user\titem\tvalue\ttime\nu\ti\t4\t1600000000\nv\tj\t2\t1600000060\n")
    lines = [
        {"user": "u", "item": "i", "value": 4, "time": 1600000000},
        {"user": "v", "item": "j", "value": 2, "time": 1600000060},
    ]
    jsonl = write(tmp_path / "a.jsonl", "\n".join(map(json.dumps, lines)))
    zipped = tmp_path / "b.csv.gz"
    zipped.write_bytes(gzip.compress(csv.read_bytes()))
    parquet = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_pylist(lines), parquet)
    read = [[r.value for r in events_of(p)] for p in (csv, tsv, jsonl, zipped, parquet)]
    assert all(events == read[0] for events in read)
    assert [e.value for e in read[0]] == [4.0, 2.0]


def test_a_bad_row_is_a_reject_with_its_number_and_reason_and_the_others_stay(tmp_path):
    path = write(
        tmp_path / "log.csv",
        "user,item,action,value,time\n"
        "u,i,like,,1600000000\n"
        "u,i,adore,,1600000000\n"
        ",i,like,,1600000000\n"
        "u,i,rating,nan,1600000000\n"
        "u,i,rating,6,1600000000\n"
        "u,i,like,,1800000000\n"
        "u,i,like,,soon\n"
        "u,i,like\n"
        "u,i,dwell,-1,1600000000\n"
        "u,j,like,,1600000000\n",
    )
    rows = events_of(path)
    rejects = {r.number: r.reason for r in rows if isinstance(r, Reject)}
    assert rejects == {
        2: "action must be one of impression, view, click, like, dislike, purchase, rating, skip, dwell, "
        "got 'adore'",
        3: "user must be 1..256 bytes, got ''",
        4: "value must be finite, got 'nan'",
        5: "value must be 1..5 for a rating, got '6'",
        6: "time must not be in the future, got '1800000000'",
        7: "time must be a number, got 'soon'",
        8: "row must have 5 columns, got 3",
        9: "value must be 0..604800 seconds for a dwell, got '-1'",
    }
    assert [r.number for r in rows if isinstance(r, Row)] == [1, 10]
    assert next(r for r in rows if isinstance(r, Reject)).raw == "u,i,adore,,1600000000"


@pytest.mark.parametrize("later", ["", 'u5,"i5",like,1600000005\n'])
def test_a_quote_that_nobody_closes_costs_its_own_line_only(tmp_path, later):
    text = (
        "user,item,action,time\n"
        "u1,i1,like,1600000001\n"
        'u2,"i2,like,1600000002\n'
        "u3,i3,like,1600000003\n"
        "u4,i4,like,1600000004\n"
    )
    rows = events_of(write(tmp_path / "log.csv", text + later))
    good = [r.value.user_id for r in rows if isinstance(r, Row)]
    assert good == ["u1", "u3", "u4"] + (["u5"] if later else [])
    (lost,) = [r for r in rows if isinstance(r, Reject)]
    assert (lost.number, lost.raw) == (2, 'u2,"i2,like,1600000002')
    assert "a quote is not closed in this line" in lost.reason


def test_a_quote_of_many_lines_costs_its_own_line_only(tmp_path):
    lines = [f"u{n},i{n},like,1600000000" for n in range(12_000)]
    lines[5000] = 'u5000,"i5000,like,1600000000'
    rows = events_of(write(tmp_path / "log.csv", "user,item,action,time\n" + "\n".join(lines) + "\n"))
    assert [r.number for r in rows if isinstance(r, Reject)] == [5001]
    assert sum(isinstance(r, Row) for r in rows) == 11_999


def test_a_cell_of_several_lines_is_one_row(tmp_path):
    path = write(tmp_path / "items.csv", 'item,title\ni1,"two\nlines, ""quoted"""\ni2,plain\n')
    items = list(load_files({"items": path}).items())
    assert [(r.number, r.value.title) for r in items] == [(1, 'two lines, "quoted"'), (2, "plain")]


def test_a_field_mapped_twice_is_refused():
    with pytest.raises(DatasetError, match="one column for user, got 'uid' and 'item'"):
        Columns.parse(["events.user=uid,events.user=item"])


def test_a_line_that_is_no_json_object_costs_itself_only(tmp_path):
    path = write(
        tmp_path / "log.jsonl",
        '{"user": "u", "item": "i", "value": 5, "time": 1600000000}\n'
        '{"user": "u", "item": \n'
        "[1]\n"
        '{"user": "u", "value": 5, "time": 1600000000}\n',
    )
    first, *bad = events_of(path)
    assert isinstance(first, Row)
    assert [b.number for b in bad] == [2, 3, 4]
    assert bad[0].reason.startswith("row must be JSON: ")
    assert bad[1].reason == "row must be a JSON object, got list"
    assert bad[2].reason == "item must be 1..256 bytes, got ''"


def test_bytes_that_are_not_utf8_cost_their_row_only(tmp_path):
    path = tmp_path / "log.csv"
    path.write_bytes(b"user,item,value,time\nu,caf\xe9,5,1600000000\nu,i,5,1600000000\n")
    bad, good = events_of(path)
    assert "item must be UTF-8" in bad.reason
    assert good.value.item_id == "i"


def test_a_wrong_type_in_parquet_is_a_reject(tmp_path):
    table = pa.table(
        {"user": ["u", None], "item": [[1], [2]], "value": [5.0, 4.0], "time": [1600000000, 1600000000]}
    )
    path = tmp_path / "log.parquet"
    pq.write_table(table, path)
    rows = events_of(path)
    assert [r.reason for r in rows] == [
        "item must be text or a number, got [1]",
        "user must be 1..256 bytes, got ''",
    ]


def test_a_parquet_cell_that_python_has_no_value_for_costs_its_row_only(tmp_path):
    days = pa.array([18519, 2**31 - 1], pa.int32()).view(pa.date32())
    path = tmp_path / "log.parquet"
    pq.write_table(
        pa.table({"user": ["u", "v"], "item": ["i", "j"], "value": [5.0, 4.0], "time": days}), path
    )
    good, bad = load_files({"events": path}).events()
    assert good.value.time_ms == 18519 * 24 * 3600 * 1000
    assert bad.number == 2
    assert bad.reason.startswith("column 'time' must hold what can be read")


def test_a_line_nested_too_deeply_costs_itself_only(tmp_path):
    line = '{"user": "u", "item": "i", "value": 5, "time": 1600000000}\n'
    good, bad = events_of(write(tmp_path / "log.jsonl", line + "[" * 5000))
    assert good.value.user_id == "u"
    assert bad.reason.startswith("row must be JSON: maximum recursion depth")


def test_a_rating_scale_is_mapped_to_one_to_five(tmp_path):
    path = write(
        tmp_path / "log.csv", "user,item,rating,time\nu,i,0,1600000000\nu,j,10,1600000000\nu,k,5,1600000000\n"
    )
    rows = events_of(path, options=FileOptions(rating_scale=(0.0, 10.0)))
    assert [r.value.value for r in rows] == [1.0, 5.0, 3.0]


def test_ties_in_time_keep_the_files_order(tmp_path):
    path = write(
        tmp_path / "log.csv", "user,item,value,time\n" + "".join(f"u,i{n},5,1600000000\n" for n in range(9))
    )
    assert [r.value.item_id for r in events_of(path)] == [f"i{n}" for n in range(9)]


def test_reading_twice_gives_the_same_ids(tmp_path):
    path = write(tmp_path / "log.csv", "user,item,value,time\nu,i,5,1600000000\nu,i,5,1600000000\n")
    dataset = load_files({"events": path}, now_ms=NOW_MS)
    once, again = ([e.event_id for e in accepted(dataset.events())] for _ in range(2))
    assert once == again
    assert len(set(once)) == 2


def test_items_users_and_relations_have_their_fields(tmp_path):
    items = write(
        tmp_path / "items.csv",
        "sku,name,genres,maker,created\ni1,The  Title,Drama|War,Acme,2020-01-01\ni2,Plain,,,\n",
    )
    users = write(tmp_path / "users.jsonl", '{"user_id": 7, "land": "DE"}\n')
    relations = write(tmp_path / "ties.csv", "from,to,weight\na,b,0.5\na,a,1\na,c,2\n")
    mapping = Columns.parse(["items.item=sku,items.attribute.brand=maker", "users.attribute.country=land"])
    dataset = load_files({"items": items, "users": users, "relations": relations}, mapping, now_ms=NOW_MS)
    first, second = accepted(dataset.items())
    assert (first.item_id, first.title, first.categories, first.attributes) == (
        "i1",
        "The Title",
        ("Drama", "War"),
        {"brand": "Acme"},
    )
    assert first.created_ms == round(datetime(2020, 1, 1, tzinfo=UTC).timestamp() * 1000)
    assert (second.categories, second.attributes, second.created_ms) == ((), {}, 0)
    assert list(accepted(dataset.users())) == [User("7", {"country": "DE"})]
    good, *bad = dataset.relations()
    assert good.value == Relation("a", "b", weight=0.5)
    assert [b.reason for b in bad] == [
        "other must differ from user, got 'a'",
        "weight must be in (0, 1], got '2'",
    ]


def test_sizes_count_the_rows(tmp_path):
    path = write(tmp_path / "log.csv", "user,item,value,time\nu,i,5,1600000000\nu,j,5,1600000000\n")
    assert load_files({"events": path}, now_ms=NOW_MS).sizes["events"]() == 2


def test_columns_that_nothing_reads_are_named_once_a_file_with_how_to_keep_them(tmp_path):
    users = write(tmp_path / "u.csv", "user,age,land,\nu1,31,DE,\n")
    log = write(tmp_path / "log.csv", "user,item,value,time,page\nu,i,5,1600000000,p\n")
    wide = write(tmp_path / "i.csv", "item," + ",".join(f"c{n}" for n in range(12)) + "\ni" + "," * 12 + "\n")
    paths = {"users": users, "events": log, "items": wide}
    dataset = load_files(paths, Columns.parse(["users.attribute.land=land"]), now_ms=NOW_MS)
    assert dataset.notes == (
        "u.csv: ignored columns: age (keep one with --map users.attribute.age=age)",
        "log.csv: times are read as s",
        "log.csv: ignored columns: page",
        "i.csv: ignored columns: c0, c1, c2, c3, c4, c5, c6, c7, c8, c9 and 2 more "
        "(keep one with --map items.attribute.c0=c0)",
    )
    kept = load_files({"users": users}, Columns.parse(["users.attribute.age=age,attribute.land=land"]))
    assert kept.notes == ()
    assert list(accepted(kept.users())) == [User("u1", {"age": "31", "land": "DE"})]


def test_an_object_of_attributes_in_json_lines_is_stored_as_text(tmp_path):
    rows = [
        {"item_id": "i1", "attributes": {"year": 1999, "hd": True, "none": None}, "maker": "Acme"},
        {"item_id": "i2", "attributes": {"year": ["1999"]}},
        {"item_id": "i3", "attributes": "1999"},
        {"item_id": "i4", "attributes": {"\ud800": "x"}},
        {"item_id": "i5", "attributes": {"": "x"}},
        {"item_id": "i6"},
    ]
    items = write(tmp_path / "items.jsonl", "\n".join(map(json.dumps, rows)))
    users = write(tmp_path / "users.jsonl", '{"user_id": "u", "attributes": {"age": "31"}}\n')
    paths = {"items": items, "users": users}
    dataset = load_files(paths, Columns.parse(["items.attribute.brand=maker"]), now_ms=NOW_MS)
    first, *bad, last = dataset.items()
    assert first.value.attributes == {"year": "1999", "hd": "true", "brand": "Acme"}
    assert [b.reason for b in bad] == [
        "attributes.year must be text or a number, got ['1999']",
        "attributes must be an object of names and values, got '1999'",
        r"attributes must be UTF-8, got '\ud800'",
        "attributes must be 1..128 bytes, got ''",
    ]
    assert last.value.attributes == {}
    assert list(accepted(dataset.users())) == [User("u", {"age": "31"})]


def test_an_object_of_attributes_in_parquet_is_stored_as_text(tmp_path):
    cells = [{"year": 1999, "hd": True}, {"year": 2001, "hd": None}, None]
    objects, plain = tmp_path / "items.parquet", tmp_path / "users.parquet"
    pq.write_table(pa.table({"item_id": ["i1", "i2", "i3"], "attributes": cells}), objects)
    pq.write_table(pa.table({"user_id": ["u"], "attributes": ["not an object"]}), plain)
    dataset = load_files({"items": objects, "users": plain}, now_ms=NOW_MS)
    found = [item.attributes for item in accepted(dataset.items())]
    assert found == [{"year": "1999", "hd": "true"}, {"year": "2001"}, {}]
    assert list(accepted(dataset.users())) == [User("u", {})]
    assert any(note.startswith("users.parquet: ignored columns: attributes") for note in dataset.notes)


def test_a_map_of_attributes_in_parquet_is_stored_as_text(tmp_path):
    cells = pa.array([[("year", "1999"), ("hd", "true")], None], pa.map_(pa.string(), pa.string()))
    path = tmp_path / "items.parquet"
    pq.write_table(pa.table({"item_id": ["i1", "i2"], "attributes": cells}), path)
    dataset = load_files({"items": path}, now_ms=NOW_MS)
    assert dataset.notes == ()
    assert [item.attributes for item in accepted(dataset.items())] == [{"year": "1999", "hd": "true"}, {}]


def test_a_detected_unit_is_said(tmp_path):
    path = write(tmp_path / "log.csv", "user,item,value,time\nu,i,5,1600000000\n")
    assert load_files({"events": path}, now_ms=NOW_MS).notes == ("log.csv: times are read as s",)


@pytest.mark.parametrize(
    ("usual", "stray"),
    [
        ("1600000000", "1600000000000"),
        ("1600000000000", "1600000000"),
        ("2020-05-06T07:08:09", "1600000000"),
        ("1600000000", "2020-05-06T07:08:09"),
    ],
)
def test_one_time_of_another_unit_costs_its_own_row_only(tmp_path, usual, stray):
    lines = "".join(f"u,i,5,{moment}\n" for moment in (stray, usual, usual))
    rows = events_of(write(tmp_path / "log.csv", "user,item,value,time\n" + lines))
    assert [type(r) for r in rows] == [Reject, Row, Row]
    assert rows[0].reason.startswith("time must ")


@pytest.mark.parametrize(
    ("header", "mapping", "message"),
    [
        ("a,b,c", [], r"has no column for user; say which with --map user=COLUMN; its columns: a, b, c"),
        ("user,item,time", [], "neither an action nor a value column"),
        ("user,item,value,time", ["user=uid"], r"has no column 'uid' \(mapped from user\)"),
        ("user,item,value,time", ["colour=c"], "--map names no field 'colour'"),
        ("user,item,value,time", ["user"], "--map must be field=column, got 'user'"),
    ],
)
def test_a_wrong_mapping_is_known_before_the_first_row(tmp_path, header, mapping, message):
    path = write(tmp_path / "log.csv", f"{header}\n")
    with pytest.raises(DatasetError, match=message):
        load_files({"events": path}, Columns.parse(mapping), now_ms=NOW_MS)


def test_a_column_named_twice_is_refused_but_not_columns_without_a_name(tmp_path):
    path = write(tmp_path / "log.csv", "user,item,item,action,time\nu,i,j,like,1600000000\n")
    with pytest.raises(DatasetError, match=r"log\.csv must name each column once, got 'item' more than once"):
        events_of(path)
    (row,) = events_of(write(path, "user,item,action,time,,\nu,i,like,1600000000,,\n"))
    assert row.value.item_id == "i"


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("name", ["log.csv", "log.jsonl"])
def test_a_file_in_utf16_is_refused_with_how_to_convert_it(tmp_path, name, encoding):
    path = tmp_path / name
    path.write_bytes("\ufeffuser,item,value,time\n".encode(encoding))
    with pytest.raises(DatasetError, match=rf"{name} must be UTF-8, got UTF-16; .* iconv -f UTF-16 -t UTF-8"):
        events_of(path)


def test_what_is_no_text_is_not_shown(tmp_path):
    path = tmp_path / "picture.csv"
    path.write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")
    refusal = r"picture.csv must be UTF-8 text, got byte 0x89 in line 1, character 1; check"
    with pytest.raises(DatasetError, match=refusal):
        events_of(path)


@pytest.mark.parametrize("name", ["log.csv", "log.tsv", "log.jsonl"])
def test_random_bytes_are_never_shown(tmp_path, name):
    draw = random.Random(7)
    path = tmp_path / name
    for size in (40, 400, 40_000):
        for _ in range(50):
            path.write_bytes(draw.randbytes(size))
            with pytest.raises(DatasetError) as refused:
                load_files({"events": path}, now_ms=NOW_MS)
            assert str(refused.value).isprintable()
            assert "must be UTF-8" in str(refused.value)


@pytest.mark.parametrize(
    ("header", "place"),
    [
        (b"user,item,\x1b[31mRED,time", "control character 0x1b in line 1, character 11"),
        (b"user,item,caf\xe9,time", "byte 0xe9 in line 1, character 14"),
        (b'user,"item,\x07', "control character 0x07 in line 1, character 12"),
        ("user,item,\u009bvalue,time".encode(), "control character 0x9b in line 1, character 11"),
    ],
)
def test_names_of_columns_that_are_no_text_are_refused_with_their_place(tmp_path, header, place):
    path = tmp_path / "log.csv"
    path.write_bytes(header + b"\nu,i,5,1600000000\n" * 20)
    with pytest.raises(DatasetError, match=rf"log\.csv must be UTF-8 text, got {place}; check") as refused:
        events_of(path)
    assert str(refused.value).isprintable()


def test_a_file_of_another_encoding_is_refused_with_the_first_place(tmp_path):
    path = tmp_path / "log.csv"
    rows = "".join(f"u{n},красные туфли,5,1600000000\n" for n in range(500))
    path.write_bytes(f"user,item,value,time\n{rows}".encode("cp1251"))
    with pytest.raises(DatasetError, match=r"got byte 0xea in line 2, character 4; .* iconv -f ENCODING"):
        events_of(path)
    path.write_bytes(f"user,item,value,time\n{rows}".encode())
    assert len(list(accepted(events_of(path)))) == 500


def test_a_quote_in_the_first_line_that_nobody_closes_is_said(tmp_path):
    path = write(tmp_path / "log.csv", 'user,item,"value,time\nu,i,5,1600000000\n')
    with pytest.raises(DatasetError, match=r"log\.csv must be text .*, its first line naming the columns: "):
        events_of(path)


@pytest.mark.parametrize(("name", "mark"), [("a.csv", ";"), ("a.csv", "\t"), ("a.tsv", ","), ("a.csv", "|")])
def test_another_delimiter_than_the_names_is_told(tmp_path, name, mark):
    path = write(tmp_path / name, mark.join(["user", "item", "value", "time"]) + "\n")
    with pytest.raises(
        DatasetError, match=rf"{name} must have its columns delimited by .*, got the one column"
    ):
        events_of(path)


def test_an_unknown_ending_is_refused(tmp_path):
    with pytest.raises(DatasetError, match=r"must end in \.csv"):
        load_files({"events": write(tmp_path / "log.txt", "")}, now_ms=NOW_MS)


def test_a_file_that_is_no_parquet_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="is not a Parquet file"):
        load_files({"events": write(tmp_path / "log.parquet", "x")}, now_ms=NOW_MS)


@pytest.mark.parametrize("ending", [".gz", ".bz2", ".zst", ".lz4"])
def test_a_file_that_is_not_compressed_as_its_name_says_is_refused(tmp_path, ending):
    path = write(tmp_path / f"log.csv{ending}", "user,item,value,time\nu,i,5,1600000000\n")
    with pytest.raises(
        DatasetError, match=rf"log\.csv\{ending} is not a \{ending} file, .* take \{ending} off"
    ):
        load_files({"events": path}, now_ms=NOW_MS)


@pytest.mark.parametrize("name", ["log.csv.gz", "log.jsonl.gz"])
def test_a_compressed_file_that_breaks_off_is_told_when_its_end_is_reached(tmp_path, name):
    lines = [f'{{"user": "u", "item": "i{n}", "value": 5, "time": {1600000000 + n}}}' for n in range(90_000)]
    if ".csv" in name:
        lines = ["user,item,value,time", *(f"u,i{n},5,{1600000000 + n}" for n in range(90_000))]
    path = tmp_path / name
    path.write_bytes(gzip.compress("\n".join(lines).encode())[:-100])
    dataset = load_files({"events": path}, now_ms=NOW_MS)
    rows = dataset.events()
    assert isinstance(next(rows), Row)
    for read in (lambda: list(rows), dataset.sizes["events"]):
        with pytest.raises(DatasetError, match=r"is not a \.gz file, or not a whole one"):
            read()


def test_a_parquet_file_with_broken_pages_is_refused(tmp_path):
    path = tmp_path / "log.parquet"
    table = pa.table({"user": ["u"], "item": ["i"], "value": [5.0], "time": [1600000000]})
    pq.write_table(table, path)
    pages = path.read_bytes()
    path.write_bytes(b"PAR1" + b"\xff" * 60 + pages[64:])
    with pytest.raises(DatasetError, match=r"log\.parquet is not a Parquet file, or not a whole one"):
        events_of(path)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("log.csv", ""),
        ("log.csv", "user,item,value,time\n"),
        ("log.tsv", "user\titem\tvalue\ttime\n\n\n"),
        ("log.jsonl", ""),
        ("log.jsonl", "\n\n"),
    ],
)
def test_a_file_without_rows_is_refused(tmp_path, name, text):
    with pytest.raises(DatasetError, match=rf"{name} must hold rows, got none.*; check that it is the file"):
        load_files({"events": write(tmp_path / name, text)}, now_ms=NOW_MS)


def test_a_parquet_file_without_rows_is_refused(tmp_path):
    path = tmp_path / "log.parquet"
    columns = {name: pa.array([], pa.string()) for name in ("user", "item", "action", "time")}
    pq.write_table(pa.table(columns), path)
    with pytest.raises(DatasetError, match=r"log\.parquet must hold rows, got none; check"):
        load_files({"events": path}, now_ms=NOW_MS)
