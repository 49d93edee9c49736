//! A client that commits and reads objects and follows whoever leads.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;

use bytes::Bytes;
use cairn_daemon::cluster::{
    Ask, CONTROL, Calls, ClusterError, Freshness, Missed, Told, new_token, new_version, wall_millis,
};
use cairn_daemon::rpc::{Backoff, Credential, Identity, Limits, Pool};
use cairn_io::rng;
use cairn_io::time::{self, Duration};
use cairn_meta::control::bucket::BucketSettings;
use cairn_meta::control::command as control;
use cairn_meta::slot::command::{Answer, Body, Bucket, Command, Envelope, Place, Write, read_answer};
use cairn_meta::slot::query::{Query, Reply};
use cairn_meta::slot::read::Mode as ReadMode;
use cairn_meta::version::commit::Mode;
use cairn_meta::version::{Content, Payload};
use cairn_placement::{NodeId, SlotId};

use super::nodes::Nodes;

/// The length of an object.
pub const OBJECT: usize = 1 << 10;
/// Longer than any election.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long it waits before it asks another node.
const PAUSE: Duration = Duration::from_millis(5);

/// See the module.
pub struct Client {
    pool: Pool,
    nodes: u64,
    slots: u32,
    bucket: Bucket,
    /// Who led each slot when it answered last.
    leaders: RefCell<Vec<u64>>,
    next: Cell<u64>,
}

/// What a slot is told or asked.
enum Say {
    Command(Bytes),
    Ask(Bytes),
}

impl Client {
    /// Of a cluster that runs; makes a bucket in it.
    ///
    /// # Errors
    /// If it doesn't answer.
    pub async fn new(nodes: &Nodes, slots: u32) -> io::Result<Rc<Self>> {
        let credential = Credential::Member(nodes.secret.membership());
        // A number that no node has.
        let me = nodes.rpc.len() as u64 + 1;
        let identity = Identity::new(nodes.secret.cluster.0.to_be_bytes(), me, credential);
        let backoff = Backoff { first: Duration::from_millis(10), max: Duration::from_millis(50) };
        let pool = Pool::new(identity, Limits::default(), backoff);
        (1..).zip(&nodes.rpc).for_each(|(node, at)| pool.set(node, *at));
        let settings = BucketSettings::default();
        let (versioning, keep, caps) = (settings.versioning, settings.keep, settings.caps);
        let bucket = Bucket { id: 0, epoch: 0, versioning, keep, caps };
        let leaders = RefCell::new(vec![1; slots as usize]);
        let mut client = Self { pool, nodes: nodes.rpc.len() as u64, slots, bucket, leaders, next: Cell::new(0) };
        let create = control::CreateBucket { name: "bench".to_owned(), owner: "bench".to_owned(), settings };
        let command = control::Command::CreateBucket(create);
        let envelope =
            control::Envelope { time: wall_millis(), who: "bench".to_owned(), token: Some(new_token()), command };
        let answer = client.insist(CONTROL, Say::Command(envelope.encode().into())).await?;
        match control::read_answer(&answer).map_err(failed)? {
            Ok(control::Answer::Bucket { id, epoch, .. }) => (client.bucket.id, client.bucket.epoch) = (id, epoch),
            other => return Err(failed(format!("{other:?}"))),
        }
        Ok(Rc::new(client))
    }

    /// Commits one more object, and says which slot it is in.
    ///
    /// # Errors
    /// If nobody takes it for long.
    pub async fn commit_next(&self) -> io::Result<SlotId> {
        let number = self.next.replace(self.next.get() + 1);
        let (slot, key) = self.object(number);
        self.commit(slot, key).await?;
        Ok(slot)
    }

    /// Reads the latest state of one of the objects that were committed, with its bytes.
    ///
    /// # Errors
    /// If nobody answers for long, or it isn't there.
    pub async fn read_any(&self) -> io::Result<()> {
        let (slot, key) = self.object(rng::next_u64() % self.next.get().max(1));
        let query = Query::Read { bucket: self.bucket.id, key, mode: ReadMode::Preferred, local: Vec::new() };
        let ask = Ask::Slot(query, Freshness::Latest);
        let answer = self.insist(slot.0, Say::Ask(ask.encode().into())).await?;
        match Told::decode(&answer).map_err(failed)? {
            Told::Slot(Reply::Read(Some(_))) => Ok(()),
            other => Err(failed(format!("an object that was committed: {other:?}"))),
        }
    }

    fn object(&self, number: u64) -> (SlotId, String) {
        let key = format!("photos/2026/{number:014}");
        (SlotId::of_key(self.bucket.id, key.as_bytes(), self.slots), key)
    }

    /// Commits one more object to this slot.
    ///
    /// # Errors
    /// As [`Self::commit_next`].
    pub async fn commit_to(&self, slot: SlotId) -> io::Result<()> {
        loop {
            let key = format!("photos/again/{:016x}", rng::next_u64());
            if SlotId::of_key(self.bucket.id, key.as_bytes(), self.slots) == slot {
                return self.commit(slot, key).await;
            }
        }
    }

    /// The node that led a slot when it answered last, counted from 0.
    pub fn leader_of(&self, slot: SlotId) -> usize {
        self.leaders.borrow()[slot.0 as usize] as usize - 1
    }

    async fn commit(&self, slot: SlotId, key: String) -> io::Result<()> {
        let content = Content {
            size: OBJECT as u64,
            etag: "00000000000000000000000000000000".to_owned(),
            payload: Payload::Inline(vec![7; OBJECT]),
            ..Content::default()
        };
        let place = Place { bucket: self.bucket, key };
        let write = Write { place, id: new_version(), mode: Mode::Overwrite, body: Body::Object(content) };
        let command = Command::Commit(vec![write]);
        let envelope = Envelope { time: wall_millis(), token: Some(new_token()), command };
        let answer = self.insist(slot.0, Say::Command(envelope.encode().into())).await?;
        match read_answer(&answer).map_err(failed)? {
            Ok(Answer::Committed(each)) => each.into_iter().try_for_each(|one| one.map(drop).map_err(failed)),
            other => Err(failed(format!("{other:?}"))),
        }
    }

    /// Says something to a slot until whoever leads it answers; it may be said twice and has one effect.
    async fn insist(&self, slot: u32, say: Say) -> io::Result<Bytes> {
        let deadline = time::now() + PATIENCE;
        let mut node = self.leaders.borrow().get(slot as usize).copied().unwrap_or(1);
        let mut last = String::new();
        while time::now() < deadline {
            let (to, within) = (NodeId(node), Duration::from_secs(2));
            let said = match &say {
                Say::Command(command) => self.pool.command(to, slot, command.clone(), within).await,
                Say::Ask(question) => self.pool.ask(to, slot, question.clone(), within).await,
            };
            match said {
                Ok(answer) => {
                    self.leaders.borrow_mut().get_mut(slot as usize).into_iter().for_each(|leader| *leader = node);
                    return Ok(answer);
                }
                Err(Missed::Final(ClusterError::Broken(why))) => return Err(failed(why)),
                Err(Missed::Elsewhere(Some(leader))) if leader.0 != node => {
                    node = leader.0;
                    continue;
                }
                Err(Missed::Elsewhere(_)) => "nobody leads".clone_into(&mut last),
                Err(Missed::Away(why)) => last = why,
                Err(Missed::Final(error)) => last = error.to_string(),
            }
            node = node % self.nodes + 1;
            time::sleep(PAUSE).await;
        }
        Err(failed(format!("slot {slot} takes nothing for long: {last}")))
    }
}

fn failed(error: impl std::fmt::Display) -> io::Error {
    io::Error::other(error.to_string())
}
