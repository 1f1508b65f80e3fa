"""Finding and fetching the published models."""

import hashlib
import http.server
import json
import os
import shutil
import socket
import threading
import zipfile

import pytest
from conftest import FIXTURES

from lib.errors import UsageError, WorkError
from lib.models import published

CONTENT = b"model" * 50000


@pytest.fixture
def server(monkeypatch):
    """A server on this machine that stands for the one that publishes ConvNeXt-N; its `answer` can be set."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            content = self.server.answer
            if content is None:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(max(len(content), len(CONTENT))))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.answer = CONTENT
    threading.Thread(target=server.serve_forever, daemon=True).start()
    entry = published.MODELS["ConvNeXt-N"]._replace(
        url=f"http://127.0.0.1:{server.server_port}/ConvNeXt-distilled.keras",
        bytes=len(CONTENT),
        sha256=hashlib.sha256(CONTENT).hexdigest(),
    )
    monkeypatch.setitem(published.MODELS, "ConvNeXt-N", entry)
    yield server
    server.shutdown()
    server.server_close()


def test_the_published_file_is_the_one_that_is_checked(shared):
    entry = published.MODELS["ConvNeXt-N"]
    path = shared / "models" / entry.file
    assert path.stat().st_size == entry.bytes
    assert published.checksum(path) == entry.sha256
    assert published.find_model("ConvNeXt-N", str(shared / "models")) == str(path)


def test_a_missing_model_is_fetched_once(server, tmp_path):
    folder = str(tmp_path / "new" / "models")
    path = published.find_model("ConvNeXt-N", folder)
    with open(path, "rb") as file:
        assert file.read() == CONTENT
    assert os.listdir(folder) == ["ConvNeXt-distilled.keras"]
    server.answer = None
    assert published.find_model("ConvNeXt-N", folder) == path


@pytest.mark.parametrize(
    "answer",
    [None, CONTENT[:-1], CONTENT[:-1] + b"x", CONTENT + CONTENT, b""],
    ids=["missing", "short", "altered", "long", "empty"],
)
def test_what_is_not_the_published_file_never_gets_its_name(server, tmp_path, answer):
    server.answer = answer
    with pytest.raises(WorkError, match=r"download it from http.*put it there"):
        published.find_model("ConvNeXt-N", str(tmp_path))
    assert os.listdir(tmp_path) == []


def test_without_a_network_one_sentence_says_where_the_file_goes(server, tmp_path):
    server.shutdown()
    server.server_close()
    with pytest.raises(WorkError) as error:
        published.find_model("ConvNeXt-N", str(tmp_path))
    assert str(tmp_path / "ConvNeXt-distilled.keras") in str(error.value)
    assert "\n" not in str(error.value)


def test_a_proxy_that_answers_nonsense_is_said_in_a_sentence(monkeypatch, tmp_path):
    listener = socket.create_server(("127.0.0.1", 0))

    def answer():
        connection, _ = listener.accept()
        connection.recv(1000)
        connection.sendall(b"nonsense\r\n\r\n")
        connection.close()

    threading.Thread(target=answer, daemon=True).start()
    entry = published.MODELS["ConvNeXt-N"]._replace(url=f"http://127.0.0.1:{listener.getsockname()[1]}/model")
    monkeypatch.setitem(published.MODELS, "ConvNeXt-N", entry)
    with pytest.raises(WorkError, match="put it there"):
        published.find_model("ConvNeXt-N", str(tmp_path))
    listener.close()


def test_a_spoilt_model_is_refused(server, tmp_path):
    (tmp_path / "ConvNeXt-distilled.keras").write_bytes(CONTENT[:100])
    with pytest.raises(UsageError, match="remove it"):
        published.find_model("ConvNeXt-N", str(tmp_path))


def test_a_model_that_can_not_be_fetched_says_where_to_put_it(tmp_path):
    with pytest.raises(UsageError, match=r"ConvNeXt-T.keras does not exist; its authors share it"):
        published.check_model_name("ConvNeXt-T", str(tmp_path))
    (tmp_path / "ConvNeXt-T.keras").write_bytes(b"")
    assert published.find_model("ConvNeXt-T", str(tmp_path)) == str(tmp_path / "ConvNeXt-T.keras")


def test_an_unknown_name_is_refused():
    with pytest.raises(UsageError, match="neither ConvNeXt-N nor"):
        published.check_model_name("ConvNeXt-X")


def test_the_model_directory(monkeypatch):
    monkeypatch.setenv("HERBARIOGRAPH_MODELS", "/models")
    assert published.model_directory("/other") == "/other"
    assert published.model_directory() == "/models"
    monkeypatch.delenv("HERBARIOGRAPH_MODELS")
    assert published.model_directory() == os.path.expanduser("~/.cache/herbariograph")


def test_a_model_made_here_is_not_the_published_one_of_its_name(tmp_path):
    path = tmp_path / "ConvNeXt-T.keras"
    shutil.copy(FIXTURES / "keras" / "reference-2.13.keras", path)
    assert published.is_published(str(path)), "its file doesn't say a size, like that of the published one"
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["metadata.json"] = json.dumps({**json.loads(members["metadata.json"]), "image_size": 96}).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    assert not published.is_published(str(path))
