"""A client that knows the schema and docs/protocol.md and nothing else of Cairn. Arguments: the schema, the port."""

import asyncio
import hashlib
import hmac
import os
import sys

import capnp

cairn = capnp.load(sys.argv[1])
PORT = int(sys.argv[2])


ACCESS, SECRET = "KEY-ann", "secret of ann"


def prove(nonce):
    said = b"cairn hello 1" + nonce + b"\0" + bytes(16) + ACCESS.encode()
    return hmac.new(SECRET.encode(), said, hashlib.sha256).digest()


async def connect():
    stream = await capnp.AsyncIoStream.create_connection(host="127.0.0.1", port=PORT)
    return capnp.TwoPartyClient(stream).bootstrap().cast_as(cairn.Node)


def put(slots, key, payload, conditions=()):
    request = slots.commit_request()
    request.call.deadlineMs = 5000
    commit = request.init("commits", 1)[0]
    commit.bucket, commit.key, commit.idempotency = 1, key, os.urandom(16)
    if conditions:
        commit.mode.conditional = list(conditions)
    else:
        commit.mode.overwrite = None
    commit.content.size = len(payload)
    commit.content.payload.inline = payload
    return request.send()


async def main():
    node = await connect()
    answer = await node.hello(protocolMin=7, protocolMax=9, software="pycapnp")
    assert answer.which() == "error", answer
    assert answer.error.kind == "incompatible" and answer.error.advice.which() == "fixInput", answer
    assert (answer.protocolMin, answer.protocolMax) == (1, 1), answer

    node = await connect()
    answer = await node.hello(protocolMin=1, protocolMax=1, software="pycapnp")
    assert answer.which() == "error" and answer.error.kind == "denied", answer

    node = await connect()
    proof = prove((await node.challenge()).nonce)
    answer = await node.hello(protocolMin=1, protocolMax=1, role="client", software="pycapnp", key=ACCESS, proof=proof)
    assert answer.which() == "welcome", answer
    welcome = answer.welcome
    assert welcome.protocol == 1 and welcome.node == 1 and len(welcome.cluster) == 16, welcome
    await node.ping()

    slots = welcome.slots
    first = await put(slots, "greeting", b"hello")
    assert first.which() == "results" and first.results[0].which() == "committed", first
    version = first.results[0].committed.version

    again = await put(slots, "greeting", b"again", [{"absent": None}])
    refused = again.results[0].error
    assert refused.kind == "preconditionFailed" and refused.advice.which() == "fixInput", again

    found = await slots.read(bucket=1, key="greeting", mode={"preferred": None})
    assert found.which() == "found", found
    assert found.found.version.id.low == version.low, found
    assert found.found.version.content.payload.inline == b"hello", found
    missing = await slots.read(bucket=1, key="nothing", mode={"preferred": None})
    assert missing.which() == "absent", missing

    page = await slots.list(bucket=1, prefix="gree", what="objects")
    assert [entry.key for entry in page.page.entries] == ["greeting"], page

    nameless = await put(slots, "", b"")
    assert nameless.which() == "error", nameless
    assert nameless.error.kind == "badInput" and nameless.error.field == "commits[0].key", nameless
    print("fine")


asyncio.run(capnp.run(main()))
