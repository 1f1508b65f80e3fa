"""A web server on this machine that plays the servers of the world, good and bad.

What a path does is the part before its last slash: `/503/a.jpg` serves the image `a.jpg` at the third request.
"""

import collections
import contextlib
import gzip
import hashlib
import http.server
import io
import ssl
import subprocess
import threading
import time

from PIL import Image

HTML = b"<!DOCTYPE html><html><body>Please log in</body></html>"


def picture(number=0, side=48, kind="JPEG"):
    """An image file as bytes, another one for each number."""
    noise = hashlib.shake_128(str(number).encode()).digest(3 * side * (side // 2))
    picture = Image.frombytes("RGB", (side, side // 2), noise)
    file = io.BytesIO()
    picture.save(file, kind, **({"quality": 95} if kind == "JPEG" else {}))
    return file.getvalue()


class Server:
    """The server, for use in a `with` statement.

    Attributes:
        files: name -> the bytes that it serves.
        asked: path -> how often it was asked for.
        agents: the `User-Agent`s of all requests.
        most: host -> the most requests that it had at once.
        connections: how many connections were made.
        port: of the server.
    """

    def __init__(self, files=(), certificate=None, delay=0.0):
        self.files, self.delay = dict(files), delay
        self.asked, self.agents = collections.Counter(), set()
        self.most, self.connections = collections.Counter(), 0
        self.moments = collections.defaultdict(list)  # path -> when it was asked for
        self._now, self._lock = collections.Counter(), threading.Lock()
        server = self

        class Handler(_Handler):
            world = server

        class Quiet(http.server.ThreadingHTTPServer):
            request_queue_size = 128
            daemon_threads = True

            def handle_error(self, *arguments):  # clients that go away
                pass

        self._server = Quiet(("0.0.0.0", 0), Handler)
        self.port = self._server.server_address[1]
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._scheme = "https" if certificate else "http"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *exception):
        self._server.shutdown()
        self._server.server_close()

    def url(self, path, host="127.0.0.1"):
        """The address of a path; all of 127.0.0.0/8 are hosts of this machine."""
        return f"{self._scheme}://{host}:{self.port}/{path}"

    @contextlib.contextmanager
    def request(self, path, host):
        """Count a request while it is answered; yields how often the path was asked for before."""
        with self._lock:
            before = self.asked[path]
            self.asked[path] += 1
            self.moments[path].append(time.monotonic())
            self._now[host] += 1
            self.most[host] = max(self.most[host], self._now[host])
        try:
            yield before
        finally:
            with self._lock:
                self._now[host] -= 1


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    timeout = 20

    def log_message(self, *arguments):
        pass

    def setup(self):
        super().setup()
        self.world.connections += 1

    def do_GET(self):
        path = self.path.lstrip("/")
        kind, _, name = path.rpartition("/")
        self.world.agents.add(self.headers["User-Agent"])
        with self.world.request(path, self.headers["Host"].split(":")[0]) as before:
            time.sleep(self.world.delay)
            content = self.world.files.get(name)
            answer = getattr(self, "_" + kind.partition("/")[0].replace("-", "_"), None)
            if answer is not None:
                answer(content, before, kind, name)
            elif content is None:
                self._answer(404, b"no such image")
            else:
                self._answer(200, content)
            with contextlib.suppress(OSError):
                self.wfile.flush()

    def _answer(self, status, content, length=None, **headers):
        self.send_response(status)
        headers.setdefault("Content-Type", "image/jpeg" if status == 200 else "text/plain")
        for header, value in headers.items():
            self.send_header(header.replace("_", "-"), value)
        if length is not False:
            self.send_header("Content-Length", str(len(content) if length is None else length))
        self.end_headers()
        self.wfile.write(content)

    def _status(self, content, before, kind, name):
        self._answer(int(kind.split("/")[1]), b"sorry")

    def _503(self, content, before, kind, name):
        self._answer(*((503, b"busy") if before < 2 else (200, content)))

    def _429(self, content, before, kind, name):
        """With `Retry-After` of as many seconds as follow."""
        after = kind.split("/")[1]
        self._answer(
            *((429, b"slower") if before < 1 else (200, content)), **({"Retry_After": after} if before < 1 else {})
        )

    def _html(self, content, before, kind, name):
        self._answer(200, HTML)  # as an image/jpeg

    def _empty(self, content, before, kind, name):
        self._answer(200, b"")

    def _text(self, content, before, kind, name):
        self._answer(200, b"nothing to see", Content_Type="text/plain")

    def _cut(self, content, before, kind, name):
        """The connection ends in the middle."""
        self._answer(200, content[: len(content) // 2], len(content))
        self.close_connection = True

    def _cut_once(self, content, before, kind, name):
        if before:
            self._answer(200, content)
        else:
            self._cut(content, before, kind, name)

    def _uncounted(self, content, before, kind, name):
        """Without a length, as of HTTP/1.0: the end is where the connection ends."""
        self._answer(200, content, False, Connection="close")
        self.close_connection = True

    def _uncounted_half(self, content, before, kind, name):
        self._uncounted(content[: len(content) // 2], before, kind, name)

    def _too_short(self, content, before, kind, name):
        """Fewer bytes than there are."""
        self._answer(200, content, len(content) - 20)
        self.close_connection = True

    def _gzip(self, content, before, kind, name):
        self._answer(200, gzip.compress(content), Content_Encoding="gzip")

    def _bomb(self, content, before, kind, name):
        self._answer(200, gzip.compress(bytes(50_000_000)), Content_Encoding="gzip")

    def _chunked(self, content, before, kind, name):
        self._answer(200, b"", False, Transfer_Encoding="chunked")
        for start in range(0, len(content), 100):
            part = content[start : start + 100]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
        self.wfile.write(b"0\r\n\r\n")

    def _huge(self, content, before, kind, name):
        """Ten gigabytes, announced."""
        self._answer(200, content, 10**10)
        self._endless_body()

    def _endless(self, content, before, kind, name):
        """Ten gigabytes, unannounced."""
        self._answer(200, content, False, Connection="close")
        self._endless_body()

    def _endless_body(self):
        self.close_connection = True
        block = bytes(1 << 20)
        for _ in range(10_000):
            self.wfile.write(block)

    def _slow(self, content, before, kind, name):
        """A byte at a time, for ever: never silent for long."""
        self._answer(200, content[:10], len(content))
        for _ in range(200):
            self.wfile.write(b"x")
            self.wfile.flush()
            time.sleep(0.05)
        self.close_connection = True

    def _silent(self, content, before, kind, name):
        time.sleep(3)
        self.close_connection = True

    def _drop(self, content, before, kind, name):
        """No answer at all."""
        self.close_connection = True

    def _garbage(self, content, before, kind, name):
        self.wfile.write(b"\0\1\2 this is no HTTP\r\n\r\n")
        self.close_connection = True

    def _loop(self, content, before, kind, name):
        self._answer(302, b"", Location=f"/loop/{name}")

    def _moved(self, content, before, kind, name):
        """To the path, or after `to:` to the address, that follows."""
        target = kind.partition("/")[2]
        where = target[3:].replace("!", "/") if target.startswith("to:") else f"/{target}/{name}".replace("//", "/")
        self._answer(301, b"moved", Location=where)


def certificate(folder):
    """A certificate that nobody has signed, as a file."""
    path = folder / "certificate.pem"
    kind = ["-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command = ["openssl", "req", *kind, "-keyout", path, "-out", folder / "public.pem"]
    subprocess.run(command, check=True, capture_output=True)
    path.write_text(path.read_text() + (folder / "public.pem").read_text())
    return path
