"""Downloads from a local server: resumed, verified, cached, and refused in one sentence."""

from __future__ import annotations

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import safetensors.torch

import resnet_backbone as rb
from resnet_backbone.engine.addresses import without_secrets
from resnet_backbone.weights import download
from resnet_backbone.weights.download import fetch
from resnet_backbone.weights.errors import WeightsError
from resnet_backbone.weights.load import read_source
from resnet_backbone.weights.sources import on_disk

CONTENT = bytes(range(256)) * 4000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    requests: list[tuple[str, str | None]]
    contents: dict[str, bytes]
    drops = 0

    def do_GET(self):
        wanted = self.headers.get("Range")
        self.requests.append((self.path, wanted))
        if self.path.startswith("/missing"):
            self.send_error(404)
            return
        if self.path.startswith("/chunked"):
            self.send_chunked()
            return
        start = int(wanted[6:-1]) if wanted else 0
        body = self.contents.get(self.path, CONTENT)[start:]
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if type(self).drops:
            type(self).drops -= 1
            body = body[: len(body) // 2]
        self.wfile.write(body)

    def send_chunked(self):
        """Of no stated length; breaks off within a chunk while there are drops left."""
        self.protocol_version = "HTTP/1.1"
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(f"{len(CONTENT):x}\r\n".encode())
        self.close_connection = True
        if type(self).drops:
            type(self).drops -= 1
            self.wfile.write(CONTENT[:1000])
        else:
            self.wfile.write(CONTENT + b"\r\n0\r\n\r\n")

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    Handler.requests, Handler.contents, Handler.drops = [], {}, 0
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()


def test_downloaded_once_and_verified(server):
    path = fetch(f"{server}/net-{SHA256[:8]}.pth", sha256_prefix=SHA256[:8])
    assert path.read_bytes() == CONTENT and path.parent == download.cache_folder()
    assert fetch(f"{server}/net-{SHA256[:8]}.pth", sha256_prefix=SHA256[:8]) == path
    assert len(Handler.requests) == 1


def test_a_dropped_connection_goes_on_where_it_broke(server):
    Handler.drops = 2
    path = fetch(f"{server}/net.pth#sha256={SHA256}", pause=0.01)
    assert path.read_bytes() == CONTENT
    half = len(CONTENT) // 2
    assert [r for _, r in Handler.requests] == [None, f"bytes={half}-", f"bytes={half + half // 2}-"]


def test_a_drop_of_no_stated_length_is_noticed(server):
    Handler.drops = 1
    assert fetch(f"{server}/chunked.pth#sha256={SHA256}", pause=0.01).read_bytes() == CONTENT


def test_always_dropped_is_an_error_and_the_part_waits_for_the_next_run(server):
    Handler.drops = 100
    with pytest.raises(WeightsError, match="the connection dropped.*4 times.*give its path"):
        fetch(f"{server}/net.pth", pause=0.01)
    Handler.drops = 0
    assert fetch(f"{server}/net.pth").read_bytes() == CONTENT
    assert Handler.requests[-1][1] is not None


def test_a_web_page_is_not_kept(server):
    Handler.contents = {"/net.pth": b"<!DOCTYPE html><html>sign in</html>"}
    with pytest.raises(WeightsError, match="net.pth: this is a web page, not weights"):
        fetch(f"{server}/net.pth")
    Handler.contents = {}
    assert fetch(f"{server}/net.pth").read_bytes() == CONTENT


def test_wrong_hash_is_deleted_and_named(server):
    with pytest.raises(WeightsError, match=f"sha256 {SHA256[:16]}.*not 0000"):
        fetch(f"{server}/net.pth#sha256={'0' * 64}")
    assert not list(download.cache_folder().glob("net*"))


def test_files_of_one_name_are_as_many_as_their_addresses(server):
    """The second address would have given the first one's weights."""
    long = f"{'n' * 200}.pth?key={'k' * 300}"
    rests = ("a/model.pth", "b/model.pth", "download.pth?id=1", "download.pth?id=2", long)
    paths = [fetch(f"{server}/{rest}", pause=0.01) for rest in rests]
    assert len(set(paths)) == len(Handler.requests) == 5 and all(path.suffix == ".pth" for path in paths)
    assert fetch(f"{server}/a/model.pth#sha256={SHA256}") == paths[0] and len(Handler.requests) == 5
    assert on_disk(f"{server}/a/model.pth") and not on_disk(f"{server}/c/model.pth")


def test_keys_in_an_address_are_neither_said_nor_kept(server):
    address = server.replace("://", "://me:word@")
    with pytest.raises(WeightsError) as caught:
        fetch(f"{server}/missing.pth?key=secret")
    assert f"{server}/missing.pth: the server says 404" in str(caught.value) and "secret" not in str(caught.value)
    net = rb.build("resnet18", num_classes=2, stem_out_channels=8, res2_out_channels=8)
    Handler.contents = {"/net.safetensors?key=secret": safetensors.torch.save(net.state_dict())}
    assert read_source(f"{server}/net.safetensors?key=secret").record.source == f"{server}/net.safetensors"
    assert without_secrets(f"{address}/net.pth?key=secret#part") == f"{server}/net.pth"
    assert without_secrets("runs/a?b.pth") == "runs/a?b.pth" and without_secrets("timm://a@b") == "timm://a@b"


def test_404_says_so_at_once(server):
    with pytest.raises(WeightsError, match="the server says 404"):
        fetch(f"{server}/missing.pth")
    assert len(Handler.requests) == 1


def test_no_server_is_one_sentence():
    with pytest.raises(WeightsError, match="no connection.*download it elsewhere"):
        fetch("http://127.0.0.1:9/net.pth", pause=0.01)


def test_two_processes_at_once_download_once(server):
    threads = [threading.Thread(target=fetch, args=(f"{server}/net.pth#sha256={SHA256}",)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(Handler.requests) == 1
