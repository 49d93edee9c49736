"""Requests as they go over the wire, signed here: forms that clients use over TLS, or only some do. The signer shares
no code with ours."""

import base64
import datetime
import hashlib
import hmac
import http.client
import urllib.parse
import zlib

import awscrt.checksums

EMPTY = hashlib.sha256(b"").hexdigest()

# The algorithms, each as the bytes that are sent in base64.
ALGORITHMS = {
    "crc32": lambda body: zlib.crc32(body).to_bytes(4, "big"),
    "crc32c": lambda body: awscrt.checksums.crc32c(body).to_bytes(4, "big"),
    "crc64nvme": lambda body: awscrt.checksums.crc64nvme(body).to_bytes(8, "big"),
    "sha1": lambda body: hashlib.sha1(body).digest(),
    "sha256": lambda body: hashlib.sha256(body).digest(),
}


def checksum(algorithm: str, body: bytes) -> str:
    return base64.b64encode(ALGORITHMS[algorithm](body)).decode()


def _mac(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


class Signed:
    """A signature to which those of chunks are chained."""

    def __init__(self, server, at=None, host=None):
        self.server = server
        self.host = host or server.host
        self.time = (at or datetime.datetime.now(datetime.timezone.utc)).strftime("%Y%m%dT%H%M%SZ")
        self.scope = f"{self.time[:8]}/{server.region}/s3/aws4_request"
        key = f"AWS4{server.secret_key}".encode()
        for word in self.scope.split("/"):
            key = _mac(key, word)
        self.key = key
        self.last = ""

    def headers(self, method: str, path: str, query: str, headers: dict[str, str], payload: str) -> dict[str, str]:
        """All the headers of a request; `payload` is its body's hash, or what stands for that."""
        every = {name.lower(): value for name, value in headers.items()}
        every |= {"host": self.host, "x-amz-date": self.time, "x-amz-content-sha256": payload}
        names = ";".join(sorted(every))
        lines = "".join(f"{name}:{every[name]}\n" for name in sorted(every))
        canonical = f"{method}\n{path}\n{query}\n{lines}\n{names}\n{payload}"
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        self.last = _mac(self.key, f"AWS4-HMAC-SHA256\n{self.time}\n{self.scope}\n{digest}").hex()
        credential = f"{self.server.access_key}/{self.scope}"
        every["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={names}, Signature={self.last}"
        )
        return every

    def chunk(self, data: bytes) -> str:
        digest = hashlib.sha256(data).hexdigest()
        text = f"AWS4-HMAC-SHA256-PAYLOAD\n{self.time}\n{self.scope}\n{self.last}\n{EMPTY}\n{digest}"
        self.last = _mac(self.key, text).hex()
        return self.last

    def trailer(self, line: str) -> str:
        digest = hashlib.sha256(f"{line}\n".encode()).hexdigest()
        text = f"AWS4-HMAC-SHA256-TRAILER\n{self.time}\n{self.scope}\n{self.last}\n{digest}"
        self.last = _mac(self.key, text).hex()
        return self.last


def send(server, method: str, path: str, headers: dict[str, str], body=b"", query: str = ""):
    """Sends it as it is; status, headers in lower case, body."""
    connection = http.client.HTTPConnection(server.host, timeout=60)
    target = path + (f"?{query}" if query else "")
    connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    connection.send(body)
    answer = connection.getresponse()
    read = answer.read()
    connection.close()
    return answer.status, {name.lower(): value for name, value in answer.getheaders()}, read


def request(server, method: str, path: str, query: str = "", headers=None, body: bytes = b"", at=None):
    """A request with a signed body."""
    path = urllib.parse.quote(path, safe="/~")
    signed = Signed(server, at)
    every = {"content-length": str(len(body)), **(headers or {})}
    every = signed.headers(method, path, query, every, hashlib.sha256(body).hexdigest())
    return send(server, method, path, every, body, query)


def frame(pieces, line, sign_chunk, sign_trailer, spoil=None) -> bytes:
    """A body as `aws-chunked` has it; the functions sign, or are None."""
    body = bytearray()
    for piece in pieces if spoil != "end" else pieces[:-1]:
        extension = f";chunk-signature={sign_chunk(piece)}" if sign_chunk else ""
        body += f"{len(piece):x}{extension}\r\n".encode()
        if piece:
            body += (bytes([piece[0] ^ 1]) + piece[1:] if spoil == "chunk" else piece) + b"\r\n"
    if line and spoil != "end":
        body += f"{line}\r\n".encode()
        if sign_trailer:
            signature = sign_trailer(line)
            body += f"x-amz-trailer-signature:{signature[::-1] if spoil == 'signature' else signature}\r\n".encode()
    return bytes(body + (b"" if spoil == "end" else b"\r\n"))


def put_in_chunks(server, path, data, *, chunk=65_536, sign=True, trailer=None, spoil=None):
    """Stores an object with `aws-chunked`.

    `sign` signs each chunk, `trailer` names the checksum that follows the body. `spoil` damages "chunk" (its bytes after
    they were signed), "checksum", "signature" (the trailer's), "length" (what was promised) or "end" (it isn't there).
    """
    payload = {
        (True, False): "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
        (True, True): "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
        (False, True): "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
    }[(sign, trailer is not None)]
    pieces = [data[at : at + chunk] for at in range(0, len(data), chunk)] + [b""]
    promised = len(data) + (1 if spoil == "length" else 0)
    headers = {"content-encoding": "aws-chunked", "x-amz-decoded-content-length": str(promised)}
    line = ""
    if trailer:
        headers["x-amz-trailer"] = f"x-amz-checksum-{trailer}"
        headers["x-amz-sdk-checksum-algorithm"] = trailer.upper()
        line = f"x-amz-checksum-{trailer}:{checksum(trailer, data + (b'x' if spoil == 'checksum' else b''))}"
    # Its length is signed before the chunks are: all signatures have one length.
    blank = (lambda _: "0" * 64) if sign else None
    headers["content-length"] = str(len(frame(pieces, line, blank, blank, spoil)))
    signed = Signed(server)
    every = signed.headers("PUT", path, "", headers, payload)
    signers = (signed.chunk, signed.trailer) if sign else (None, None)
    return send(server, "PUT", path, every, frame(pieces, line, *signers, spoil))
