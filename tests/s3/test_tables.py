"""Tables: Parquet by Arrow, Delta Lake, whose commits are conditional writes, and Iceberg, whose catalogue is elsewhere."""

import concurrent.futures

import deltalake
import pyarrow
import pyarrow.compute
import pyarrow.dataset
import pyarrow.fs
import pyarrow.parquet
import pyiceberg.catalog.sql
import pyiceberg.types
import pytest

ROWS = 200_000


def table(first=0, rows=ROWS):
    numbers = pyarrow.array(range(first, first + rows), pyarrow.int64())
    return pyarrow.table({"number": numbers, "name": pyarrow.compute.cast(numbers, pyarrow.string())})


@pytest.fixture
def files(server):
    return pyarrow.fs.S3FileSystem(
        access_key=server.access_key,
        secret_key=server.secret_key,
        endpoint_override=server.host,
        scheme="http",
        region=server.region,
    )


def test_parquet_is_read_as_written(files, bucket):
    pyarrow.parquet.write_table(table(), f"{bucket}/t.parquet", filesystem=files, row_group_size=20_000)
    assert pyarrow.parquet.read_table(f"{bucket}/t.parquet", filesystem=files).equals(table())
    few = pyarrow.parquet.read_table(
        f"{bucket}/t.parquet", filesystem=files, columns=["number"], filters=[("number", ">=", ROWS - 10)]
    )
    assert few["number"].to_pylist() == list(range(ROWS - 10, ROWS))


def test_a_data_set_of_many_files(files, bucket):
    whole = table().append_column("part", pyarrow.compute.divide(table()["number"], 25_000))
    pyarrow.dataset.write_dataset(
        whole, f"{bucket}/set", filesystem=files, format="parquet", partitioning=["part"], partitioning_flavor="hive"
    )
    back = pyarrow.dataset.dataset(f"{bucket}/set", filesystem=files, format="parquet", partitioning="hive")
    assert back.count_rows() == ROWS and len(back.files) == 8
    assert sorted(back.to_table(filter=pyarrow.dataset.field("part") == 3)["number"].to_pylist())[0] == 75_000


def test_streams_of_arrow(files, bucket, data):
    body = data(23 << 20)
    with files.open_output_stream(f"{bucket}/stream") as out:
        for at in range(0, len(body), 1_000_001):
            out.write(body[at : at + 1_000_001])
    with files.open_input_file(f"{bucket}/stream") as read:
        assert read.size() == len(body)
        assert read.read_at(100, 7 << 20) == body[7 << 20 : (7 << 20) + 100]
        assert read.read() == body
    info = files.get_file_info(pyarrow.fs.FileSelector(bucket, recursive=True))
    assert [entry.base_name for entry in info] == ["stream"]


@pytest.fixture
def lake(server, bucket):
    options = {
        "AWS_ACCESS_KEY_ID": server.access_key,
        "AWS_SECRET_ACCESS_KEY": server.secret_key,
        "AWS_ENDPOINT_URL": server.endpoint,
        "AWS_REGION": server.region,
        "AWS_ALLOW_HTTP": "true",
        "aws_conditional_put": "etag",
    }
    return f"s3://{bucket}/lake", options


def test_a_delta_table_has_its_history(lake):
    uri, options = lake
    for turn in range(5):
        deltalake.write_deltalake(uri, table(turn * 1000, 1000), mode="append", storage_options=options)
    delta = deltalake.DeltaTable(uri, storage_options=options)
    assert delta.version() == 4 and delta.to_pyarrow_table().num_rows == 5000
    delta.delete("number < 500")
    assert deltalake.DeltaTable(uri, storage_options=options).to_pyarrow_table().num_rows == 4500
    assert deltalake.DeltaTable(uri, version=1, storage_options=options).to_pyarrow_table().num_rows == 2000
    delta.optimize.compact()
    assert deltalake.DeltaTable(uri, storage_options=options).to_pyarrow_table().num_rows == 4500


def test_writers_of_a_delta_table_lose_nothing(lake):
    uri, options = lake
    deltalake.write_deltalake(uri, table(0, 10), storage_options=options)

    def append(turn):
        deltalake.write_deltalake(uri, table((turn + 1) * 10, 10), mode="append", storage_options=options)

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(append, range(12)))
    delta = deltalake.DeltaTable(uri, storage_options=options)
    assert sorted(delta.to_pyarrow_table()["number"].to_pylist()) == list(range(130))
    assert delta.version() == 12


@pytest.fixture
def catalog(server, bucket, tmp_path):
    """A catalogue in a file here; data and metadata of its tables are on the server."""
    options = {
        "uri": f"sqlite:///{tmp_path}/catalogue.db",
        "warehouse": f"s3://{bucket}/ice",
        "py-io-impl": "pyiceberg.io.pyarrow.PyArrowFileIO",
        "s3.endpoint": server.endpoint,
        "s3.access-key-id": server.access_key,
        "s3.secret-access-key": server.secret_key,
        "s3.region": server.region,
    }
    catalog = pyiceberg.catalog.sql.SqlCatalog("test", **options)
    catalog.create_namespace("space")
    yield catalog
    catalog.close()


def numbers(table, **what):
    return sorted(table.scan(**what).to_arrow()["number"].to_pylist())


def test_an_iceberg_table_has_its_history(catalog):
    ice = catalog.create_table("space.numbers", schema=table(0, 0).schema)
    for turn in range(3):
        ice.append(table(turn * 1000, 1000))
    three = ice.current_snapshot().snapshot_id
    assert numbers(ice) == list(range(3000))
    ice.delete("number < 500")
    assert numbers(ice) == list(range(500, 3000))
    deleted = ice.current_snapshot().snapshot_id
    ice.overwrite(table(10_000, 10), overwrite_filter="number >= 1000")
    assert numbers(ice) == [*range(500, 1000), *range(10_000, 10_010)]
    ice.overwrite(table(7, 1))
    # Who comes anew reads the same, and what was there before.
    again = catalog.load_table("space.numbers")
    assert numbers(again) == [7]
    assert numbers(again, snapshot_id=three, row_filter="number >= 2990") == list(range(2990, 3000))
    assert numbers(again, snapshot_id=deleted) == list(range(500, 3000))


def test_an_iceberg_table_gets_columns(catalog):
    ice = catalog.create_table("space.columns", schema=table(0, 0).schema)
    ice.append(table(0, 10))
    before = ice.current_snapshot().snapshot_id
    with ice.update_schema() as update:
        update.add_column("twice", pyiceberg.types.LongType())
        update.rename_column("name", "label")
    wide = table(10, 10).rename_columns(["number", "label"])
    ice.append(wide.append_column("twice", pyarrow.compute.multiply(wide["number"], 2)))
    rows = catalog.load_table("space.columns").scan().to_arrow().sort_by("number").to_pylist()
    assert rows[3] == {"number": 3, "label": "3", "twice": None}
    assert rows[13] == {"number": 13, "label": "13", "twice": 26}
    assert ice.scan(snapshot_id=before).to_arrow().column_names == ["number", "name"]
    location = ice.metadata_location
    catalog.purge_table("space.columns")
    with pytest.raises(FileNotFoundError):
        ice.io.new_input(location).open()
