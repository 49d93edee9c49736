# The wire of Cairn: what a node answers on its RPC port (7000 unless told otherwise).
#
# A client in any language is a Cap'n Proto RPC library, this file and docs/protocol.md. In short:
#   1. Connect by TCP, speak the two-party RPC protocol (level 1), ask for the bootstrap capability: it is a `Node`.
#   2. Call `challenge`, then `hello` once, with a proof that you know the secret of your access key. Its answer carries
#      the other capabilities.
#   3. Call them. Every answer is either a result or an `Error`, which says what to do about it.
# Exceptions of Cap'n Proto itself mean a broken connection, a method that this node doesn't have, or bytes that
# break the protocol; nothing that a correct client should expect is told that way.
#
# Words
#   node, slot, version, head, epoch, ... mean what docs/architecture.md says.
#   "Empty" for Data, Text and lists is the same as absent. A field left out has its zero, which is always said here.
#   Times are milliseconds since 1970-01-01 UTC; durations are milliseconds too.
#   Keys, prefixes and delimiters are UTF-8 of at most keyBytesMax bytes, compared as bytes.
#
# Limits are the constants below. What exceeds one is refused with `badInput` (one field), or ends the connection
# (messageBytesMax, nestingMax, questionsMax: whoever breaks these can't be trusted with an answer).
#
# How this file may change (invariant I9: an old node beside a new one works, or says precisely why not)
#   - Numbers (@n), ids (@0x...), names of wire fields and their types are for ever. Nothing is removed or renumbered;
#     what is no longer used is said to be so and keeps its number.
#   - New fields, enumerants, union members, methods and interfaces get the next free number. A new field's zero must
#     mean what was meant before the field was there.
#   - An enumerant or union member that a reader doesn't know: of an Error, trust `advice`; unknown advice is `stop`; of
#     a request, it is refused as `unsupported`.
#   - `protocol` of `hello` is raised only when an old peer would misunderstand, not when it would merely not know. Today
#     there is one: 1.
#   - What an interface of a later role needs (chunks, store, admin) becomes a new interface and a new field of Welcome.

@0xd8ba7cf7c1a3c6d1;

const protocol :UInt16 = 1;
# The newest protocol this file describes. The oldest is 1 too.

const messageBytesMax :UInt32 = 16777216;
# The longest message, in bytes of all segments together.

const nestingMax :UInt16 = 32;
# The deepest nesting of pointers in a message.

const questionsMax :UInt32 = 4096;
# Calls of one connection that were sent and not yet both answered and finished. Far fewer are worked on at once: the
# rest is told `slowDown`, see Welcome.callsMax.

const dataBytesMax :UInt32 = 8388608;
# The longest single `Data` of a Raft batch. A part of a snapshot is at most snapshotPartBytesMax.

const snapshotPartBytesMax :UInt32 = 1048576;

const keyBytesMax :UInt32 = 1024;
# Keys, prefixes, delimiters, start-afters.

const inlineBytesMax :UInt32 = 4096;
# Payload that lives in the version itself.

const textBytesMax :UInt32 = 16384;
# Any Text, and the sum of all texts of one content: etag, checksums, headers, metadata, tags.

const listMax :UInt32 = 1024;
# Elements of any list that has no other limit here: parents, conditions, headers, dots of a context.

const chunksMax :UInt32 = 4096;
# Chunks of one version: what is larger is uploaded in parts.

const mapMax :UInt32 = 65536;
# Nodes and buckets of a map.

const commitsMax :UInt32 = 1024;
# Commits of one batch.

const pageMax :UInt32 = 1000;
# Entries of one page of a listing.

const hopsMax :UInt8 = 3;
# How often a request may be sent on, see CallInfo.hops.

# ---------------------------------------------------------------------------------------------------- Saying hello

interface Node {
  # The bootstrap capability: all that a stranger may call.

  hello @0 HelloRequest -> HelloResponse;
  # Comes once, behind `challenge`. A connection that isn't welcomed within some seconds is closed.

  ping @1 () -> ();
  # Answers at once. A connection on which nothing arrives for Welcome.idleMs is closed; call this well before.

  challenge @2 () -> (nonce :Data);
  # 32 random bytes, which are this connection's: HelloRequest.proof is made with them. The same each time it is asked.
}

enum Role {
  client @0;
  # A program that uses the cluster.
  peer @1;
  # A node of the cluster. Gets `Raft` as well.
}

struct HelloRequest {
  protocolMin @0 :UInt16;
  protocolMax @1 :UInt16;
  # The protocols the caller speaks, both ends included. The connection uses the highest one that both know.

  cluster @2 :Data;
  # The cluster the caller means: 16 bytes, or empty if it doesn't know yet. Another one than the node's is refused
  # with `wrongCluster`. A peer must know.

  role @3 :Role;

  node @4 :UInt64;
  # A peer's own id; 0 for a client.

  expect @5 :UInt64;
  # The id of the node the caller believes to talk to; 0 if it doesn't care. If it is another one, the answer is
  # `wrongNode`: an address was reused.

  software @6 :Text;
  # Name and version of the program, for logs: "cairn 0.1.0".

  key @7 :Text;
  # The public half of a client's access key: the same keys as for S3, with the same rights. Empty for a peer.

  proof @8 :Data;
  # That the caller knows the secret: HMAC-SHA256, keyed with the bytes of the access key's secret half, over
  #   "cairn hello 1" (13 bytes), the nonce of `challenge` (32 bytes), the role's number (1 byte), `node` (8 bytes, little-endian),
  #   `expect` (8 bytes, little-endian), `key` (as many bytes as it has).
  # A peer's is keyed with what nodes derive from their cluster's secret. What is missing or wrong is told `denied`.
}

struct HelloResponse {
  protocolMin @0 :UInt16;
  protocolMax @1 :UInt16;
  # What the node speaks. Filled in whatever the answer is.

  union {
    welcome @2 :Welcome;
    error @3 :Error;
  }
}

struct Welcome {
  protocol @0 :UInt16;
  # The protocol of this connection from here on.

  cluster @1 :Data;
  # 16 bytes.

  node @2 :UInt64;
  # Who answers.

  software @3 :Text;

  callsMax @4 :UInt32;
  # Calls of this connection that are worked on at once. One more is answered with `slowDown`.

  bytesMax @5 :UInt32;
  # Bytes of requests and answers of this connection that the node holds at once, likewise.

  idleMs @6 :UInt32;
  # See Node.ping.

  slots @7 :Slots;
  control @8 :Control;
  raft @9 :Raft;
  # Null for a client.
}

# ------------------------------------------------------------------------------------------------------ Every call

struct CallInfo {
  # Comes with every request. All zero is fine.

  deadlineMs @0 :UInt32;
  # How long the caller still waits, counted from when the node has read the request (clocks are not compared). Past it
  # the node drops the work and answers `deadlinePassed`. 0: the node's default, 30 s. More than 10 minutes is cut to that.

  hops @1 :UInt8;
  # How often the request was sent on already: 0 from a client. More than hopsMax is refused.

  trace @2 :UInt64;
  # A number of the caller's choice that comes back in logs, along all hops. 0: none.
}

struct Error {
  kind @0 :ErrorKind;
  message @1 :Text;
  # For people: what is wrong and what to do. Not for programs.

  field @2 :Text;
  # Of `badInput`: the field of the request, as in "commits[3].content.payload". Else empty.

  outcome @3 :Outcome;
  # Whether the request may have been carried out all the same.

  advice :union {
    stop @4 :Void;
    # It will fail in the same way each time, and not because of this input. Tell a person.

    retryHere @5 :UInt32;
    # Again on this connection, not before these milliseconds have passed. If the outcome is unknown and the request has
    # an idempotency key: with the same one.

    goTo @6 :NodeRef;
    # That node leads the slot, or knows better. At once.

    fixInput @7 :Void;
    # The request itself is wrong, or a condition it states doesn't hold. Sending it again is of no use.

    tryElsewhere @8 :UInt32;
    # Any other node of the cluster, or this one after these milliseconds.
  }
}

enum Outcome {
  nothingDone @0;
  unknown @1;
  # It may have been carried out, may yet be, or never. An idempotency key makes repeating it safe.
}

enum ErrorKind {
  internal @0;           # A defect or a failed disk of the node; its log says more.
  badInput @1;           # See Error.field.
  unsupported @2;        # This node is older than the request, the role may not call this, or it isn't served yet.
  incompatible @3;       # No common protocol.
  wrongCluster @4;
  wrongNode @5;
  slowDown @6;           # A limit of load. Nothing was done.
  deadlinePassed @7;
  notLeader @8;          # The slot is led elsewhere. Nodes tell each other; for a client they find the leader.
  noLeader @9;           # Nobody leads the slot now: an election, or a lost majority.
  preconditionFailed @10; # A condition doesn't hold; a bucket to be removed isn't empty.
  notFound @11;          # A bucket, an upload, an exact version that isn't there.
  tooMany @12;           # A cap per key was reached: heads or history.
  stale @13;             # What the request builds on is outdated: an epoch, a cursor.
  noRoom @14;            # The node's disks are full for data of this kind.
  stopping @15;          # The node is about to end. Nothing was done.
  exists @16;            # A bucket of that name is there already.
  tooLarge @17;          # The request or the answer would not fit into a message. Ask for less at once.
  unreachable @18;       # The node that should answer can't be reached, or went away in the middle.
  locked @19;            # The version is under retention or a legal hold.
  denied @20;            # The proof of hello doesn't hold, the access key is gone, or its user may not do this.
}

struct NodeRef {
  node @0 :UInt64;
  # 0: unknown.
  address @1 :Text;
  # "host:port" of its RPC port; empty: look it up in the map.
}

# ------------------------------------------------------------------------------------------------------- Versions

struct VersionId {
  # 128 bits, ordered by time of creation. Zero is no version.
  high @0 :UInt64;
  low @1 :UInt64;
}

struct Dot {
  # One event of one writer: dotted version vectors are made of these. A writer is named by 128 bits.
  writerHigh @0 :UInt64;
  writerLow @1 :UInt64;
  counter @2 :UInt64;
}

struct Seen {
  # The events of one writer that a version knows of, itself not included.
  writerHigh @0 :UInt64;
  writerLow @1 :UInt64;
  upTo @2 :UInt64;
  # All from 1 to this one; 0: none.
  beyond @3 :List(UInt64);
  # Single ones above, in rising order.
}

struct Pair {
  name @0 :Text;
  value @1 :Text;
}

struct Checksum {
  algorithm @0 :Text;
  # As S3 writes it: "CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256".
  value @1 :Text;
  # As S3 writes it: base64, behind which a checksum of parts has "-" and their number.
}

struct Chunk {
  name @0 :Data;
  # BLAKE3-256 of its bytes: 32 bytes.
  size @1 :UInt32;
}

enum VersionKind {
  data @0;
  tombstone @1;
  # The object is deleted. Kept until its retention is over, so that the deletion itself is not forgotten.
  deleteMarker @2;
  # S3's: hides the object in a versioned bucket. In a commit the two are one: the bucket's versioning decides.
}

enum VersionState {
  confirmed @0;
  # A majority of the slot's replicas has it.
  provisional @1;
  # One node has it, durably, and will hand it over.
}

struct Content {
  # What a version says about its object; everything that the writer chooses.

  kind @0 :VersionKind;
  # All else is empty but for data.
  size @1 :UInt64;
  # Of the payload, in bytes.
  lock @2 :Lock;
  etag @3 :Text;
  # Without quotes: visible ASCII. Empty in a commit: the node makes it as S3 does, the MD5 of the bytes.
  checksums @4 :List(Checksum);
  # In a commit: checked, and kept.
  headers @5 :List(Pair);
  # Those that S3 keeps with an object: content-type, cache-control, content-disposition, content-encoding, content-language,
  # expires, x-amz-website-redirect-location. Each at most once, in small letters when they are read.
  metadata @6 :List(Pair);
  # The user's: names without "x-amz-meta-", in small letters, fit for a header of HTTP, as are the values. Each at most once.
  tags @7 :List(Pair);
  # At most 10, of S3's lengths.
  expires @8 :UInt64;
  # When a tombstone replaces it; 0: never.
  payload :union {
    none @9 :Void;
    # No bytes: an empty object, a tombstone, a delete marker.
    inline @10 :Data;
    # As long as `size` says.
    chunks @11 :List(Chunk);
    # In order; their sizes add up to `size`. Only in answers, as long as chunks can't be sent by RPC: in a commit, `unsupported`.
    parts @12 :VersionId;
    # The parts of this multipart upload, in their order. Only in answers: completing an upload makes it.
  }
}

struct Lock {
  # S3's object lock.
  mode @0 :LockMode;
  until @1 :UInt64;
  # End of the retention; of no meaning without a mode.
  legalHold @2 :Bool;
}

enum LockMode {
  none @0;
  governance @1;
  # May be shortened by those who may bypass governance, and say so.
  compliance @2;
  # Shortened by nobody.
}

struct Version {
  id @0 :VersionId;
  parents @1 :List(VersionId);
  # What it replaced. Empty: the first of its key.
  dot @2 :Dot;
  context @3 :List(Seen);
  # What its writer knew: one element for each writer.
  state @4 :VersionState;
  content @5 :Content;
  modified @6 :UInt64;
  # When it was made, as its maker's clock said. Shown to people; orders nothing.
  isNull @7 :Bool;
  # Made while the bucket's versioning was off or suspended: S3 calls it "null".
  isHead @8 :Bool;
  # Nothing supersedes it.
}

# ---------------------------------------------------------------------------------------------------------- Slots

interface Slots {
  # Objects, with the rights that the user of the access key has by S3. Any node takes any request: it finds the slot of a key
  # and the slot's leader.

  commit @0 CommitRequest -> CommitResponse;
  # Adds versions. Linearizable per key, except what is answered as provisional.

  read @1 ReadRequest -> ReadResponse;
  # One version of one key, without bytes that live in chunks.

  list @2 ListRequest -> ListResponse;
  # A page of keys in order.
}

struct Commit {
  bucket @0 :UInt64;
  key @1 :Text;
  # 1 to keyBytesMax bytes.

  idempotency @2 :Data;
  # 16 bytes that the client draws at random, the same for each repetition: the commit has one effect, and each
  # repetition is told the same. Empty: none, and a commit whose outcome is unknown must not simply be repeated. It counts for
  # this user and key alone. A slot remembers its last 1024, and up to 65536 that are younger than 15 minutes.

  mode :union {
    overwrite @3 :Void;
    # Replaces the head that the leader prefers. Never makes a branch; other branches stay.

    derive @4 :List(VersionId);
    # Replaces these. If one of them is a head no longer, the new version is a branch beside what replaced it.

    conditional @5 :List(Condition);
    # As `overwrite` if all of these hold, else `preconditionFailed`. Never provisional.

    merge @6 :List(VersionId);
    # Replaces all of these: two or more.

    import @7 :Import;
    # A version that was made elsewhere, provisionally. For nodes: a client is told `unsupported`.
  }

  content @8 :Content;
  ack @9 :Ack;
  # When it is answered. `unset`: as the bucket says.
}

enum Ack {
  # Which nodes have a version, durably, before its writer is answered.
  unset @0;
  one @1;
  # The node that was asked: the version is provisional. `quorum` where a write can't be (conditions, an idempotency key, a bucket
  # that rejects offline writes, a cluster of one).
  quorum @2;
  # A majority of the slot's nodes.
  all @3;
  # Every node of the slot. If one doesn't answer, the outcome is `unknown`: the version is there, confirmed, on a majority.
}

struct Condition {
  # About the head that the leader prefers; a tombstone or delete marker counts as absent.
  union {
    absent @0 :Void;
    # If-None-Match: *
    exists @1 :Void;
    # If-Match: *
    etagIn @2 :List(Text);
    # If-Match: any of these, without quotes.
    etagNotIn @3 :List(Text);
    # If-None-Match: none of these. Holds if there is none.
    head @4 :VersionId;
    # It is this version.
  }
}

struct Import {
  id @0 :VersionId;
  parents @1 :List(VersionId);
  dot @2 :Dot;
  context @3 :List(Seen);
  modified @4 :UInt64;
  isNull @5 :Bool;
  # All as the node that made it answered them.
}

struct CommitRequest {
  call @0 :CallInfo;
  commits @1 :List(Commit);
  # 1 to commitsMax, of any buckets and keys. Each is decided for itself, those of one key in their order; all are durable
  # when they are answered. They are no transaction: behind a deadline, some may have been carried out.
}

struct CommitResponse {
  union {
    results @0 :List(CommitResult);
    # One for each commit, in their order.
    error @1 :Error;
    # Of the whole batch.
  }
}

struct CommitResult {
  union {
    committed @0 :Committed;
    error @1 :Error;
    # Of this commit; the others stand.
  }
}

struct Committed {
  version @0 :VersionId;
  state @1 :VersionState;
  effect @2 :Effect;
  repeated @3 :Bool;
  # The idempotency key had been seen: this is what the first one was answered. False may also mean that the node can't tell.
  heads @4 :UInt32;
  # Heads of the key now. More than one is a conflict, until somebody merges.
}

enum Effect {
  fastForward @0;
  # It replaced all it meant to.
  branch @1;
  # Something had replaced its parent already; both are heads.
  nothing @2;
  # Nothing had to change: an import that was known.
}

struct ReadRequest {
  call @0 :CallInfo;
  bucket @1 :UInt64;
  key @2 :Text;
  mode :union {
    preferred @3 :Void;
    # The preferred head as the slot's leader knows it.
    confirmedOnly @4 :Void;
    # The preferred confirmed head, or an error.
    provisionalAllowed @5 :Void;
    # What this node has itself, or, if it has no part in the slot, another: without asking whether it is the latest.
    version @6 :VersionId;
    # Exactly this one.
    at @7 :UInt64;
    # The preferred head at that time.
    nullVersion @8 :Void;
    # The one that S3 calls "null".
  }
}

struct ReadResponse {
  union {
    found @0 :Found;
    absent @1 :Absent;
    # No such key, or deleted.
    error @2 :Error;
  }
}

struct Found {
  version @0 :Version;
  heads @1 :List(VersionId);
  # All heads of the key, the preferred one first; empty when an exact or past version was asked for.
  fromLeader @2 :Bool;
  # Linearizable. False: it may be old.
}

struct Absent {
  marker @0 :VersionId;
  # The tombstone or delete marker that hides it; zero if there never was such a key.
  fromLeader @1 :Bool;
}

enum Listing {
  objects @0;
  # Keys whose preferred head is data.
  versions @1;
  # All versions, of each key the newest first.
  uploads @2;
  # Multipart uploads that are neither completed nor aborted.
  conflicts @3;
  # Keys with several heads of which one is data.
}

struct ListRequest {
  call @0 :CallInfo;
  bucket @1 :UInt64;
  what @2 :Listing;
  prefix @3 :Text;
  delimiter @4 :Text;
  # Keys that contain it behind the prefix are rolled up into one entry, the key up to and including it.
  startAfter @5 :Text;
  # Only keys behind this one, itself excluded.
  cursor @6 :Data;
  # From an earlier page with the same other fields: the next page. Then `startAfter` is not looked at.
  pageSize @7 :UInt32;
  # At most this many entries. 0: pageMax, which is also the most.
  scope :union {
    bucketWide @8 :Void;
    # The node asks all slots and merges.
    slot @9 :UInt32;
    # Only this one. Not served yet.
  }
}

struct ListResponse {
  union {
    page @0 :Page;
    error @1 :Error;
  }
}

struct Page {
  entries @0 :List(Entry);
  # In the order of their keys.
  cursor @1 :Data;
  # For the next page; empty: this was the last.
}

struct Entry {
  key @0 :Text;
  # Of a prefix: the common prefix itself.
  union {
    prefix @1 :Void;
    version @2 :Version;
    # Its id, kind, size, etag, when it was modified, and of which sort it is; nothing else.
    upload @3 :Upload;
    conflict @4 :UInt32;
    # So many heads.
  }
}

struct Upload {
  id @0 :VersionId;
  initiated @1 :UInt64;
}

# ----------------------------------------------------------------------------------------------------------- Raft

interface Raft {
  # Between nodes only. What travels is opaque here: its format is that of the nodes' consensus and carries a version of
  # its own.

  batch @0 RaftRequest -> RaftResponse;
  # All messages that one node has for another at a moment, of all groups.

  snapshot @1 SnapshotRequest -> SnapshotResponse;
  # One part of the state of a group. The sender has a bounded window of parts under way and goes on where the answers
  # say, so a broken connection costs the window, not the transfer.

  command @2 SlotRequest -> RaftResponse;
  # Has a group that the node leads obey a command. It is not sent on: `notLeader` names who leads, if the node knows.

  query @3 SlotRequest -> RaftResponse;
  # Asks a group on the node. The question says how fresh the answer must be.
}

struct SlotRequest {
  call @0 :CallInfo;
  slot @1 :UInt32;
  # The group's number.
  data @2 :Data;
  # A command or a question, as the nodes' state machines write it.
}

struct RaftRequest {
  call @0 :CallInfo;
  data @1 :Data;
}

struct RaftResponse {
  union {
    data @0 :Data;
    error @1 :Error;
  }
}

struct SnapshotRequest {
  call @0 :CallInfo;
  transfer @1 :Data;
  # 16 bytes, drawn at random for each transfer.
  group @2 :UInt32;
  # A slot's number; 0xffffffff is control.
  offset @3 :UInt64;
  # Of this part in the whole.
  data @4 :Data;
  last @5 :Bool;
  # The whole ends with this part.
  header @6 :Data;
  # What the snapshot is of; the same in each part, so that any part can be the first to arrive.
}

struct SnapshotResponse {
  union {
    received @0 :UInt64;
    # Everything below this offset has arrived. The sender may go on from there.
    done @1 :Data;
    # It is installed; an opaque answer.
    error @2 :Error;
  }
}

# -------------------------------------------------------------------------------------------------------- Control

interface Control {
  # The cluster map and what changes it. A user sees the buckets that it owns or may list, and changes what it owns.

  map @0 MapRequest -> MapResponse;
  # The map as this node has it.

  wait @1 MapRequest -> MapResponse;
  # As `map`, but waits for an epoch above `have`, up to the deadline; then `unchanged`. One at a time per connection.

  propose @2 ProposeRequest -> ProposeResponse;
  # One change. Any node takes it and finds control's leader.
}

struct MapRequest {
  call @0 :CallInfo;
  have @1 :UInt64;
  # The epoch the caller has; 0: none. If the node has no later one, the answer is `unchanged`.
}

struct MapResponse {
  union {
    map @0 :ClusterMap;
    unchanged @1 :UInt64;
    # The epoch that the node has.
    error @2 :Error;
  }
}

struct ClusterMap {
  epoch @0 :UInt64;
  cluster @1 :Data;
  # 16 bytes.
  placement @2 :Text;
  # Nodes, labels, policies, pins, counts of partitions and slots: the map file of docs/placement.md, in TOML. The one
  # Text that may be longer than textBytesMax: up to dataBytesMax.
  addresses @3 :List(NodeRef);
  # Where each node answers RPC. At most mapMax.
  buckets @4 :List(Bucket);
  # At most mapMax. Those that the user may see.
}

struct Bucket {
  id @0 :UInt64;
  # Never reused.
  name @1 :Text;
  policy @2 :Text;
  # Name of a policy of the map; empty: the cluster's own, and the only one yet.
  offline @3 :Offline;
  ack @4 :Ack;
  # When commits are answered that don't say. `unset` in a bucket to be: `quorum`; in an update: as it was.
}

enum Offline {
  # What a write does when no leader of its slot can be reached.
  accept @0;
  # It becomes provisional.
  reject @1;
}

struct ProposeRequest {
  call @0 :CallInfo;
  idempotency @1 :Data;
  # As in Commit, for this user. Removing a bucket needs none: when it is gone, it is `notFound`.
  epoch @2 :UInt64;
  # The epoch the change builds on: `stale` if the bucket was changed after it. 0: whichever.
  change :union {
    createBucket @3 :Bucket;
    # Its id is 0 here and drawn by the leader. It belongs to the user.
    updateBucket @4 :Bucket;
    # Of that id. The name is the one it has, or empty.
    removeBucket @5 :UInt64;
    # Only an empty one. Uploads that aren't completed are aborted.
    setPlacement @6 :Text;
    # The whole map file, see ClusterMap.placement. Not served yet.
    setAddress @7 :NodeRef;
    # Not served yet.
  }
}

struct ProposeResponse {
  union {
    applied @0 :Applied;
    error @1 :Error;
  }
}

struct Applied {
  epoch @0 :UInt64;
  # From this epoch on the change is in the map.
  bucket @1 :UInt64;
  # The id of a bucket that was created.
}
