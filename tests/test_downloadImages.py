"""Images are downloaded from a web that is as it is, politely, and each is what its row in the index says."""

import hashlib
import io
import os
import random
import signal
import subprocess
import sys
import time

import archives
import documents
import numpy as np
import pandas
import pytest
import tifffile
import web
from conftest import FIXTURES, ROOT, script
from PIL import Image, UnidentifiedImageError

import downloadImages
from lib.download import download as stage
from lib.download import fetch
from lib.storage.files import checksum

COLUMNS = ["FILE", "URL", "GBIFID", "CATALOGNUMBER", "LICENCE", "RIGHTSHOLDER", "SHA256", "BYTES"]
HIDDEN = ".partial"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """In an empty folder, with pauses of a fiftieth of a second."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fetch, "FIRST_PAUSE", 0.02)
    return tmp_path


def listed(urls, name="list.csv"):
    """A table of addresses, each with an occurrence of its own."""
    rows = [[str(number), f"C {number}", url, "CC BY 4.0"] for number, url in enumerate(urls)]
    with open(name, "wb") as file:
        file.write(archives.quoted(["id", "catalogNumber", "identifier", "license"], rows))
    return name


def run(urls, *options):
    """Download addresses of this machine into `out`; returns the exit status."""
    source = urls if isinstance(urls, str) else listed(urls)
    return downloadImages.main(["-i", source, "-o", "out", "--allow-private", *options])


def table(name):
    return pandas.read_csv(os.path.join("out", name), sep="\t", dtype=str, keep_default_na=False)


def errors():
    """The end of each address that failed -> why."""
    found = table("errors.tsv")
    return {url.split("/", 3)[3]: error for url, error in zip(found["URL"], found["ERROR"])}


def tree(folder="out"):
    """All files below a folder, as path -> content."""
    found = {}
    for parent, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(parent, name)
            with open(path, "rb") as file:
                found[os.path.relpath(path, folder)] = file.read()
    return found


GOOD = ("503", "429/0", "cut-once", "uncounted", "gzip", "chunked", "moved")
BAD = {
    "html": "not an image, but a web page",
    "moved/html": "not an image, but a web page",
    "empty": "an empty file",
    "text": "not an image, but a text",
    "cut": "cut short",
    "uncounted-half": "cut short: about ",
    "too-short": ("the server's answer is not HTTP", "cut short: its end is missing"),  # whichever is noticed first
    "bomb": "more than the 1,000,000 bytes allowed",
    "huge": "more than the 1,000,000 bytes allowed",
    "endless": "more than the 1,000,000 bytes allowed",
    "drop": "the connection fails",
    "garbage": "the server's answer is not HTTP",
    "loop": "more than 5 redirects",
    "moved/to:ftp:!!a.example!a": "'ftp://a.example/a' is not a valid address of http or https",
    "moved/to:http:!!a.1!a": "is not a valid address of http or https",
    "status/404": "HTTP status 404 (Not Found)",
    "status/500": "HTTP status 500 (Internal Server Error)",
    "status/999": "HTTP status 999",
}


def test_a_web_as_it_is(monkeypatch, capsys):
    """What is good arrives, what is bad is named, and the second call asks for that alone."""
    monkeypatch.setattr(stage, "_TRIES", 3)
    files = {f"{number}.jpg": web.picture(number, side=200) for number in range(40)}
    with web.Server(files) as server:

        def address(kind, number):
            return server.url(f"{kind}/{number}.jpg".lstrip("/"), f"127.0.0.{1 + number % 5}")

        good = [address(kind, number) for number, kind in enumerate(GOOD)]
        bad = [address(kind, number) for number, kind in enumerate(BAD, start=len(good))]
        plain = [address("", number) for number in range(28, 40)]
        options = ("--contact", "me@museum.org", "--max-bytes", "1000000")
        assert run([*good, *bad, *plain, plain[0]], *options) == 0
        said = capsys.readouterr()
        assert said.out == "LICENCE\tIMAGES\nCC BY 4.0\t19\n"
        assert said.err.splitlines() == [
            "37 images of 5 hosts.",
            "19 images in out, listed in its index.tsv; 18 errors, listed in out/errors.tsv.",
        ]
        index, before = table("index.tsv"), tree()
        assert list(index.columns) == COLUMNS and list(index["FILE"]) == sorted(index["FILE"])
        assert sorted(index["URL"]) == sorted([*good, *plain, plain[0]])
        for row in index.itertuples():
            assert row.FILE.startswith("out/") and len(row.FILE) == len("out/ab/cd/.jpg") + 32
            content = before[row.FILE[4:]]
            assert content == files[row.URL.rsplit("/", 1)[1]]
            assert (hashlib.sha256(content).hexdigest(), str(len(content))) == (row.SHA256, row.BYTES)
            assert f"C {row.GBIFID}" == row.CATALOGNUMBER and row.LICENCE == "CC BY 4.0"
        assert sorted(index[index["URL"] == plain[0]]["GBIFID"]) == ["25", "37"]
        assert {*tree()} == {
            *(path[4:] for path in index["FILE"]),
            "index.tsv",
            "index.tsv.settings.json",
            "errors.tsv",
        }
        found = errors()
        for number, (kind, reason) in enumerate(BAD.items(), start=len(good)):
            said = found.pop(f"{kind}/{number}.jpg")
            assert any(words in said for words in ((reason,) if isinstance(reason, str) else reason)), (kind, said)
        assert found == {}
        # Politely: each once if that is enough, few connections, and a name.
        assert all(server.asked[url.split("/", 3)[3]] == 1 for url in plain)
        assert server.asked["503/0.jpg"] == 3 and server.asked["429/0/1.jpg"] == 2
        assert server.asked[f"status/404/{len(good) + list(BAD).index('status/404')}.jpg"] == 1
        assert max(server.most.values()) <= 4
        assert server.agents == {"Herbariograph (https://github.com/dpl10/herbariograph; me@museum.org)"}
        asked = dict(server.asked)
        missing = server.url("status/404/a.jpg")
        assert run([*good, missing, *plain], *options) == run([*good, missing, *plain], *options) == 0
        assert server.asked == {**asked, "status/404/a.jpg": 2}
        assert {*tree()} == {*before} and errors() == {"status/404/a.jpg": "HTTP status 404 (Not Found)"}


def test_two_specimens_on_one_picture_have_a_row_each_also_without_identifiers(capsys):
    with web.Server({"a.jpg": web.picture(1, side=200)}) as server:
        rows = [[name, server.url("a.jpg"), "CC BY 4.0"] for name in ("K 1", "K 2")]
        with open("list.csv", "wb") as file:
            file.write(archives.quoted(["catalogNumber", "accessURI", "license"], rows))
        assert run("list.csv") == 0
        assert list(table("index.tsv")["CATALOGNUMBER"]) == ["K 1", "K 2"] and server.asked["a.jpg"] == 1


def test_a_request_ends_in_time(monkeypatch):
    """Whether the server says nothing or never ends. Apart, as other answers may take a busy machine a second."""
    monkeypatch.setattr(stage, "_TRIES", 2)
    with web.Server({"a.jpg": web.picture(0)}) as server:
        assert run([server.url("slow/a.jpg"), server.url("silent/a.jpg")], "--timeout", "1") == 1
    assert errors() == dict.fromkeys(["slow/a.jpg", "silent/a.jpg"], "the server takes too long")


def test_what_only_the_reader_of_predictions_knows_is_an_image_too(capsys):
    samples = np.random.default_rng(0).random((20, 30, 4), "float32")
    file = io.BytesIO()
    tifffile.imwrite(file, samples, photometric="separated", planarconfig="separate")
    with pytest.raises(UnidentifiedImageError):
        Image.open(io.BytesIO(file.getvalue()))
    files = {"a": (FIXTURES / "pictures" / "plain.heic").read_bytes(), "b": file.getvalue()}
    with web.Server(files) as server:
        assert run([server.url(name) for name in files]) == 0
    kept = {name.rpartition(".")[2]: content for name, content in tree().items() if name.count("/") == 2}
    assert kept == {"heic": files["a"], "tif": files["b"]}, capsys.readouterr().err


def test_connections_are_kept_and_few(capsys):
    files = {f"{number}.jpg": web.picture(number) for number in range(60)}
    with web.Server(files, delay=0.01) as server:
        urls = [server.url(name, f"127.0.0.{host}") for name in files for host in (1, 2)]
        assert run(urls, "--per-host", "2") == 0
        assert max(server.most.values()) == 2 and server.connections <= 4
        assert run(urls, "--per-host", "9", "--connections", "3", "--overwrite") == 0
        assert sum(server.most.values()) <= 2 + 2 + 3
    assert len(table("index.tsv")) == 120


def test_a_server_is_given_the_time_that_it_asks_for(capsys):
    with web.Server({"a.jpg": web.picture()}) as server:
        assert run([server.url("429/1/a.jpg"), server.url("429/86400/a.jpg", "127.0.0.2")]) == 0
        first, second = server.moments["429/1/a.jpg"]
        assert second - first >= 1 and server.asked["429/86400/a.jpg"] == 1
    asked = "127.0.0.2: asks to wait 86,400 seconds (HTTP status 429 (Too Many Requests)); run the same command later"
    assert asked in capsys.readouterr().err
    assert len(table("index.tsv")) == 1 and "429" in errors()["429/86400/a.jpg"]


def test_a_host_that_is_down_does_not_hold_up_the_rest(monkeypatch, capsys):
    monkeypatch.setattr(stage, "_TRIES", 2)
    files = {f"{number}.jpg": web.picture(number) for number in range(30)}
    with web.Server(files) as server:
        down = [server.url(f"silent/{name}") for name in files]
        assert run([*down[:6], *(server.url(name, "127.0.0.2") for name in files)], "--timeout", "1") == 0
        moments = {
            kind: [m for path in server.moments if path.startswith("silent") == kind for m in server.moments[path]]
            for kind in (True, False)
        }
        assert max(moments[False]) - min(moments[False]) < 1 and max(moments[False]) < max(moments[True])
    assert len(table("index.tsv")) == 30 and len(errors()) == 6
    # Nobody listens there any more.
    assert run([server.url("a.jpg")], "--timeout", "5", "--overwrite") == 1
    (reason,) = errors().values()
    assert reason.startswith("the server can't be reached (")
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.endswith(": none of the 1 images could be downloaded; see out/errors.tsv.")


def test_failures_in_a_row_end_a_hosts_turn(monkeypatch, capsys):
    monkeypatch.setattr(stage, "MOST_FAILURES", 12)
    with web.Server({"a.jpg": web.picture()}) as server:
        gone = [server.url(f"{number}.jpg") for number in range(60)]
        assert run([*gone, server.url("a.jpg", "127.0.0.2")], "--strict") == 1
        assert 12 <= len(server.asked) - 1 <= 15  # those already asked for come to an end
    given_up = "given up after 12 failures in a row, the last: HTTP status 404 (Not Found)"
    assert f"127.0.0.1: {given_up}; run the same command later" in capsys.readouterr().err
    reasons = list(errors().values())
    assert len(reasons) == 60 and reasons.count(f"not asked for: its host {given_up}") >= 45


def test_a_certificate_that_nobody_signed(here, capsys):
    with web.Server({"a.jpg": web.picture()}, web.certificate(here)) as server:
        assert run([server.url("a.jpg", "localhost"), server.url("b.jpg")]) == 1
    assert {reason.split(":")[0] for reason in errors().values()} == {"the server's certificate is not valid"}


def test_addresses_of_the_machine_itself_are_left_alone(monkeypatch, capsys):
    from lib.download import addresses

    def public(address):
        return address == "127.0.0.2" or genuine(address)

    genuine = addresses.is_public
    with web.Server({"a.jpg": web.picture(), "b.jpg": web.picture(1)}) as server:
        inside = server.url("b.jpg")[len("http://") :].replace("/", "!")
        urls = [
            *(server.url("b.jpg", host) for host in ("127.0.0.1", "localhost", "2130706433", "127.1", "0.0.0.0")),
            server.url("a.jpg", "127.0.0.2"),
            server.url(f"moved/to:http:!!{inside}/a.jpg", "127.0.0.2"),
        ]
        monkeypatch.setattr(addresses, "is_public", public)
        assert downloadImages.main(["-i", listed(urls), "-o", "out"]) == 0
        assert server.asked["b.jpg"] == 0 and server.asked["a.jpg"] == 1
    reasons = list(table("errors.tsv")["ERROR"])
    assert len(table("index.tsv")) == 1 and len(reasons) == 6
    refused = ("an address of this machine or its network", "not a valid address")
    assert all(any(words in reason for words in refused) for reason in reasons), reasons


def test_a_proxy_of_the_environment_is_used(monkeypatch, capsys):
    """And it may be in this network, though what it fetches may not."""
    with web.Server({"a.jpg": web.picture()}) as server:
        monkeypatch.setenv("http_proxy", server.url(""))
        urls = ["http://images.example/a.jpg", "http://10.0.0.1/a.jpg"]
        assert downloadImages.main(["-i", listed(urls), "-o", "out"]) == 0
        assert dict(server.asked) == {"http://images.example/a.jpg": 1}
    assert len(table("index.tsv")) == 1 and "this machine or its network" in errors()["a.jpg"]


def test_large_pictures_can_be_kept_small(capsys):
    files = {
        "large.tif": web.picture(1, side=1200, kind="TIFF"),
        "small.png": web.picture(2, side=300, kind="PNG"),
        "wrong-name.png": web.picture(3, side=1000),
    }
    with web.Server(files) as server:
        urls = [server.url(name) for name in files]
        assert run(urls, "--longest", "400") == 0
        index = table("index.tsv").set_index("URL")
        for url, ending, size in zip(urls, (".jpg", ".png", ".jpg"), ((400, 200), (300, 150), (400, 200))):
            with Image.open(index.loc[url, "FILE"]) as picture:
                assert picture.size == size and index.loc[url, "FILE"].endswith(ending)
            assert os.path.getsize(index.loc[url, "FILE"]) == int(index.loc[url, "BYTES"])
            assert checksum(index.loc[url, "FILE"]) == index.loc[url, "SHA256"]
        assert run(urls, "--longest", "500") == 2
        assert "--longest 400, but this call has 500" in capsys.readouterr().err
        assert run(urls, "--overwrite") == 0
    assert sorted(path[-4:] for path in table("index.tsv")["FILE"]) == [".jpg", ".png", ".tif"]


def test_a_second_call_takes_what_is_there_and_notices_another_archive(here, capsys):
    """Also with other images wanted, and with files that were removed."""
    files = {f"{number}.jpg": web.picture(number) for number in range(20)}
    with web.Server(files) as server:
        urls = [server.url(name) for name in files]
        assert run(urls, "--limit", "5") == 0 and len(server.asked) == 5
        assert run(urls) == 0 and set(server.asked.values()) == {1} and len(server.asked) == 20
        before, gone = tree(), table("index.tsv")["FILE"][3]
        os.unlink(gone)
        assert run(urls) == 0 and tree() == before and sum(server.asked.values()) == 21
        assert "is not what" not in capsys.readouterr().err
        assert run([*urls[5:], server.url("503/0.jpg")]) == 0
        notice = "list.csv is not what out was downloaded from before; images that are there already are not fetched"
        said = capsys.readouterr().err
        assert notice in said and "5 images of earlier calls that this one leaves out stay in out." in said
        assert len(table("index.tsv")) == 16 and sum(server.asked.values()) == 24
        (here / "out" / "index.tsv").write_text("mine\n")
        assert run(urls) == 2
    assert "out/index.tsv was not written by this command" in capsys.readouterr().err


def started(options, server, urls, **more):
    environment = dict(os.environ, PYTHONPATH="", **more)
    command = [*script("downloadImages.py"), "-i", listed(urls), "-o", "out", "--allow-private", *options]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_however_often_it_is_killed_the_result_is_the_same(capsys):
    seed = random.randrange(10**6)
    chance = random.Random(seed)
    files = {f"{number}.jpg": web.picture(number, side=300) for number in range(150)}
    with web.Server(files, delay=0.05) as server:
        urls = [server.url(name, f"127.0.0.{1 + number % 2}") for number, name in enumerate([*files, "gone.jpg"])]
        kills = 0
        for _ in range(4):
            process = started([], server, urls)
            done, limit = sum(server.asked.values()), chance.randrange(1, 50)
            while process.poll() is None and sum(server.asked.values()) < done + limit:
                time.sleep(0.005)
            time.sleep(chance.random() / 10)
            kills += process.poll() is None
            process.send_signal(chance.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM]))
            process.communicate()
        assert kills >= 2 and not os.path.exists("out/index.tsv"), f"seed {seed}"
        process = started([], server, urls)
        said = process.communicate()[1]
        assert process.returncode == 0, (seed, said)
        # Half a second of work at most is done again after each kill.
        assert sum(server.asked.values()) < 151 + 4 * 60, f"seed {seed}"
        killed = tree()
        os.rename("out", "killed")
        assert run(urls) == 0
    assert tree() == killed, f"seed {seed}"


@pytest.mark.slow
def test_ctrl_c_and_a_full_disk_are_one_line_and_resumable(capsys):
    files = {f"{number}.jpg": web.picture(number, side=2000) for number in range(60)}
    with web.Server(files, delay=0.1) as server:
        urls = [server.url(name) for name in files]
        process = started([], server, urls)
        while not server.asked and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        said = process.communicate()[1]
        assert process.returncode == 130 and said.splitlines()[-1] == "downloadImages.py: stopped by Ctrl-C."
        server.delay = 0
        command = " ".join([*script("downloadImages.py"), "-i", "list.csv", "-o", "out", "--allow-private"])
        done = subprocess.run(["bash", "-c", f"ulimit -f 8; {command}"], capture_output=True, text=True)
        assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
        assert "can't be written" in done.stderr.splitlines()[-1] and "again to resume" in done.stderr
        assert run(urls) == 0
    assert len(table("index.tsv")) == 60 and not os.path.exists(os.path.join("out", HIDDEN))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (["-i", "none.zip"], ["-i/--input", "none.zip"]),
        (["-o", "nowhere/out"], ["-o/--output", "nowhere"]),
        (["--licences", "gpl"], ["--licences", "'gpl' is not a licence", "by-nc"]),
        (["--limit", "0"], ["--limit"]),
        (["--sample", "0"], ["--sample"]),
        (["--per-host", "0"], ["--per-host", "from 1 to 64"]),
        (["--connections", "5000"], ["--connections"]),
        (["--longest", "1"], ["--longest"]),
        (["--max-bytes", "x"], ["--max-bytes"]),
        (["--contact", "a\nb"], ["--contact", "printable"]),
        (["--contact", "Zoë"], ["--contact", "printable"]),
    ],
)
def test_a_wrong_call_is_one_line_and_leaves_nothing(wrong, words, here, capsys):
    listed(["http://a.example/a.jpg"])
    with pytest.raises(SystemExit) as ended:
        downloadImages.main(["-i", "list.csv", "-o", "out", *wrong])
    said = capsys.readouterr()
    assert (ended.value.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert all(word in said.err for word in words), said.err
    assert os.listdir(here) == ["list.csv"]


@pytest.mark.parametrize(
    ("options", "content", "words"),
    [
        ((), "a,b\n1,2\n", "-i/--input: list.csv has no column of image addresses"),
        (("--column", "c"), "a,b\n1,2\n", "--column: list.csv has no column 'c', only a, b"),
        ((), "id,identifier\n1,x\n", "list.csv has no image that is wanted; left out: 1 without an address."),
        (("--licences", "by"), "id,identifier\n1,http://a.example/a\n", "left out: 1 with no licence."),
    ],
)
def test_an_input_without_images_is_one_line(options, content, words, here, capsys):
    (here / "list.csv").write_text(content)
    assert run("list.csv", *options) == 2
    said = capsys.readouterr().err
    assert words in said and said.count("\n") == 1
    assert os.listdir(here) == ["list.csv"]


@pytest.mark.once
def test_the_five_commands_lead_from_the_archive_to_the_table(here, shared):
    """As they stand in the documentation: the world's servers are played by a proxy."""
    with open(shared / "images" / "SOURCES.tsv", encoding="utf-8") as file:
        names = [line.split("\t")[0] for line in file][1:]
    pictures = [(shared / "images" / name).read_bytes() for name in names]
    parts = ("licenses/by/4.0", "licenses/by-nc/4.0", "licenses/by-nd/4.0", "publicdomain/zero/1.0")
    licences = [*(f"http://creativecommons.org/{part}/legalcode" for part in parts), ""]
    occurrences, media, files = [], [], {}
    for number in range(500):
        files[f"{number}.jpg"] = pictures[number % len(pictures)]
        occurrences.append([str(4_000_000_000 + number), "CC_BY_4_0", f"Holder {number % 9}", f"K{number:09d}"])
        url = f"http://herbarium-{number % 7}.example/media/{number}.jpg"
        media.append([occurrences[-1][0], "StillImage", "image/jpeg", url, f"Sheet {number}", licences[number % 5], ""])
    archives.gbif("0001234-250101000000000.zip", occurrences, media)
    setup, activate, *commands = documents.commands("docs/downloadImages.md", "From the click to the table")
    assert (setup, activate, len(commands)) == ("make setup", ". .venv/bin/activate", 3)  # which the tests have done
    for name in ("downloadImages.py", "predictImages.py"):
        os.symlink(ROOT / name, name)
    with web.Server(files) as server:
        environment = dict(os.environ, http_proxy=server.url(""), HERBARIOGRAPH_MODELS=str(shared / "models"))
        environment["PATH"] = os.path.dirname(sys.executable) + os.pathsep + environment["PATH"]
        for command in commands:
            done = subprocess.run(["bash", "-c", command], env=environment, capture_output=True, text=True)
            assert done.returncode == 0, (command, done.stderr)
            if "trial" in command:
                assert sum(int(line.split("\t")[1]) for line in done.stdout.splitlines()[1:]) == 100
    assert "300 of 300 images have a row in images/index.tsv." in done.stderr
    found = pandas.read_csv("predictions.tsv", sep="\t", dtype=str, keep_default_na=False)
    assert len(found) == 300 and set(found["LICENCE"]) == {"CC BY 4.0", "CC BY-NC 4.0", "CC0 1.0"}
    for row in found.itertuples():
        number = int(row.GBIFID) - 4_000_000_000
        assert (f"K{number:09d}", f"Holder {number % 9}") == (row.CATALOGNUMBER, row.RIGHTSHOLDER)
        assert checksum(row.FILE) == hashlib.sha256(files[f"{number}.jpg"]).hexdigest() == row.SHA256
    assert os.path.getsize("predictions.html") > 100_000
