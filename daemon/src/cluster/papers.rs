//! What a node has to know before it can ask anybody: small files on each of its disks.
//!
//! | file | what | who has the same |
//! | --- | --- | --- |
//! | `cluster-secret` | the cluster's name, and the secret that seals others | every node of the cluster: it is copied by people |
//! | `slots` | the node's number, and which slot lives in which lane | nobody else |
//! | `map` | what control said last, when this was written | every node of the cluster, or an older one |
//!
//! All may be read by their owner only, and are whole or not there. The first two are written on every disk that lacks them at each start; `map` may be missing,
//! old or damaged: who starts while nobody tells what control knows goes on with the latest that a disk has. Of `slots`
//! that differ, because the node died between two disks or one was away, what counts is decided for each slot: the place that it was
//! moved to last. When a slot moves, the disk that it leaves is told first: whoever sees the copy left there sees that it doesn't count.

use std::fmt::Write;
use std::io;

use cairn_io::fs::Dir;
use cairn_io::rng;
use cairn_meta::control::state::{ClusterId, Whole};
use cairn_placement::NodeId;
use tracing::warn;

use super::routes::{Places, Spot};
use super::{ClusterError, Seal};
use crate::private;

/// The name of the file that nodes of a cluster have in common.
pub const SECRET: &str = "cluster-secret";
const SLOTS: &str = "slots";
const MAP: &str = "map";

const SECRET_HEAD: &str = "cairn cluster secret 1";
const SLOTS_HEAD: &str = "cairn slots 1";
const MAP_HEAD: &str = "cairn map 1";

/// What the nodes of a cluster have in common.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    /// The cluster.
    pub cluster: ClusterId,
    secret: [u8; Seal::BYTES],
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secret").field("cluster", &self.cluster).finish_non_exhaustive()
    }
}

/// What this node alone has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Own {
    /// The cluster it belongs to.
    pub cluster: ClusterId,
    /// Its number.
    pub node: NodeId,
    /// Where its slots are.
    pub places: Places,
}

impl Secret {
    /// Of a cluster that begins.
    ///
    /// # Errors
    /// If the system has no randomness to give.
    pub fn draw() -> io::Result<Self> {
        let name = rng::secret()?;
        let cluster = ClusterId(u128::from_be_bytes(*name.first_chunk().expect("32 bytes have 16")));
        Ok(Self { cluster, secret: rng::secret()? })
    }

    /// What seals with it.
    pub fn seal(&self) -> Seal {
        Seal::new(&self.secret)
    }

    /// What nodes of the cluster prove to each other to know. Derived, so that it opens nothing that is sealed.
    pub fn membership(&self) -> [u8; 32] {
        blake3::derive_key("cairn 2026 membership of a node", &self.secret)
    }

    fn encode(&self) -> String {
        format!("{SECRET_HEAD}\ncluster {}\nsecret {}\n", self.cluster, hex(&self.secret))
    }

    fn decode(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        lines.next().filter(|head| *head == SECRET_HEAD)?;
        let cluster = u128::from_str_radix(lines.next()?.strip_prefix("cluster ")?, 16).ok()?;
        let digits = lines.next()?.strip_prefix("secret ")?;
        let mut secret = [0; Seal::BYTES];
        if digits.len() != 2 * secret.len() || !digits.is_ascii() {
            return None;
        }
        for (at, byte) in secret.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).ok()?;
        }
        Some(Self { cluster: ClusterId(cluster), secret })
    }
}

impl Own {
    fn encode(&self) -> String {
        let mut text = format!("{SLOTS_HEAD}\ncluster {}\nnode {}\n", self.cluster, self.node.0);
        for (slot, Spot { lane, moves }) in &self.places {
            let _ = match moves {
                0 => writeln!(text, "slot {slot} lane {lane}"),
                moves => writeln!(text, "slot {slot} lane {lane} moved {moves}"),
            };
        }
        with_check(text)
    }

    fn decode(text: &str) -> Option<Self> {
        let mut lines = checked(text)?.lines();
        lines.next().filter(|head| *head == SLOTS_HEAD)?;
        let cluster = ClusterId(u128::from_str_radix(lines.next()?.strip_prefix("cluster ")?, 16).ok()?);
        let node = NodeId(lines.next()?.strip_prefix("node ")?.parse().ok()?);
        let place = |line: &str| {
            let (slot, spot) = line.strip_prefix("slot ")?.split_once(" lane ")?;
            let (lane, moves) = spot.split_once(" moved ").unwrap_or((spot, "0"));
            Some((slot.parse().ok()?, Spot { lane: lane.parse().ok()?, moves: moves.parse().ok()? }))
        };
        Some(Self { cluster, node, places: lines.map(place).collect::<Option<Places>>()? })
    }
}

/// Ends a text with the hash of what is before.
fn with_check(mut text: String) -> String {
    let check = blake3::hash(text.as_bytes()).to_hex();
    let _ = writeln!(text, "check {check}");
    text
}

/// What is before, if it is what was written.
fn checked(text: &str) -> Option<&str> {
    let (before, check) = text.trim_end().rsplit_once("check ")?;
    (blake3::hash(before.as_bytes()).to_hex().as_str() == check).then_some(before)
}

fn encode_map(whole: &Whole) -> String {
    with_check(format!("{MAP_HEAD}\n{}\n", base64_simd::STANDARD.encode_to_string(whole.encode())))
}

fn decode_map(text: &str) -> Option<Whole> {
    let (head, bytes) = checked(text)?.trim_end().split_once('\n')?;
    let bytes = base64_simd::STANDARD.decode_to_vec(bytes).ok().filter(|_| head == MAP_HEAD)?;
    Whole::decode(&bytes).ok()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What these disks have of a file; those that lack it are left out.
async fn read_all<T>(
    disks: &[String],
    name: &str,
    decode: impl Fn(&str) -> Option<T>,
) -> Result<Vec<(String, T)>, ClusterError> {
    let mut found = Vec::new();
    for disk in disks {
        let text = private::read(disk, name).await;
        let text = text.map_err(|error| ClusterError::Broken(format!("{disk}/{name} can't be read: {error}")))?;
        let Some(text) = text else { continue };
        let Some(value) = decode(&text) else {
            let message = format!(
                "{disk}/{name} is damaged, or of a newer version; copy it from another disk of the node, or remove it if another has it"
            );
            return Err(ClusterError::Broken(message));
        };
        found.push((disk.clone(), value));
    }
    Ok(found)
}

async fn write_all(disks: impl Iterator<Item = &String>, name: &str, text: &str) -> Result<(), ClusterError> {
    let mut wrong = None;
    for disk in disks {
        if let Err(error) = write(disk, name, text).await {
            // What one disk refuses, others have all the same.
            wrong.get_or_insert(error);
        }
    }
    wrong.map_or(Ok(()), Err)
}

async fn write(disk: &str, name: &str, text: &str) -> Result<(), ClusterError> {
    let write = async { private::write(&Dir::open(disk).await?, name, text).await };
    write.await.map_err(|error| ClusterError::Broken(format!("{disk}/{name} can't be written: {error}")))
}

/// The secret on these disks.
///
/// # Errors
/// If one can't be read, or they differ.
pub async fn read_secret(disks: &[String]) -> Result<Option<Secret>, ClusterError> {
    let mut found = read_all(disks, SECRET, Secret::decode).await?;
    let Some((first, secret)) = found.pop() else { return Ok(None) };
    if let Some((other, _)) = found.iter().find(|(_, other)| *other != secret) {
        let message = format!("{first} and {other} have secrets of different clusters in {SECRET}; keep the right one");
        return Err(ClusterError::Broken(message));
    }
    Ok(Some(secret))
}

/// Writes the secret onto the disks that lack it.
///
/// # Errors
/// If one can't be written.
pub async fn write_secret(disks: &[String], secret: &Secret) -> Result<(), ClusterError> {
    let have = read_all(disks, SECRET, Secret::decode).await?;
    let lack = disks.iter().filter(|disk| !have.iter().any(|(has, _)| has == *disk));
    write_all(lack, SECRET, &secret.encode()).await
}

/// What the node wrote down of itself.
///
/// # Errors
/// If it can't be read, or disks are of different nodes.
pub async fn read_own(disks: &[String]) -> Result<Option<Own>, ClusterError> {
    let mut found = read_all(disks, SLOTS, Own::decode).await?;
    found.sort_by_key(|(_, own)| own.places.len());
    let Some((first, mut most)) = found.last().cloned() else { return Ok(None) };
    let is_other = |(_, own): &&(String, Own)| (own.cluster, own.node) != (most.cluster, most.node);
    if let Some((other, _)) = found.iter().find(is_other) {
        let message =
            format!("{first} and {other} are of different nodes, as their files `{SLOTS}` say; use those of one");
        return Err(ClusterError::Broken(message));
    }
    for (slot, spot) in found.iter().flat_map(|(_, own)| &own.places) {
        let known = most.places.entry(*slot).or_insert(*spot);
        if spot.moves > known.moves {
            *known = *spot;
        }
    }
    Ok(Some(most))
}

/// Writes down what the node is, on every disk that says otherwise; durable when this returns.
///
/// # Errors
/// If a disk can't be written.
pub async fn write_own(disks: &[String], own: &Own) -> Result<(), ClusterError> {
    let have = read_all(disks, SLOTS, Own::decode).await?;
    let lack = disks.iter().filter(|disk| !have.iter().any(|(has, there)| has == *disk && there == own));
    write_all(lack, SLOTS, &own.encode()).await
}

/// The latest of the maps on these disks. One that can't be read is passed over: it is only a memory.
pub async fn read_map(disks: &[String]) -> Option<Whole> {
    let mut found = Vec::new();
    for disk in disks {
        match private::read(disk, MAP).await.map(|text| text.map(|text| decode_map(&text))) {
            Ok(Some(Some(whole))) => found.push(whole),
            Ok(Some(None)) => warn!(disk, "its file `{MAP}` is damaged, or of a newer version"),
            Ok(None) => {}
            Err(error) => warn!(disk, %error, "its file `{MAP}` can't be read"),
        }
    }
    found.into_iter().max_by_key(|whole| whole.epoch)
}

/// Writes a map onto a disk; durable when this returns.
///
/// # Errors
/// If it can't be written.
pub async fn write_map(disk: &str, whole: &Whole) -> Result<(), ClusterError> {
    write(disk, MAP, &encode_map(whole)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_down_is_read_again_and_damage_is_seen() {
        let places = [(0, Spot::first(1)), (5, Spot::first(1).moved(4)), (16_777_215, Spot::first(0))].into();
        let own = Own { cluster: ClusterId(7), node: NodeId(3), places };
        assert!(own.encode().contains("slot 5 lane 4 moved 1\n"));
        let text = own.encode();
        assert_eq!(Own::decode(&text), Some(own));
        assert_eq!(Own::decode(&text.replace("slot 0 lane 1", "slot 0 lane 2")), None);
        assert_eq!(Own::decode(&text[..text.len() / 2]), None);
        let whole = Whole { epoch: 7, settings: vec![("a".to_owned(), <_>::default())], ..Whole::default() };
        let text = encode_map(&whole);
        assert_eq!(decode_map(&text), Some(whole));
        assert_eq!(decode_map(&text.replacen('A', "B", 1)), None);
        assert_eq!(decode_map(&text[..text.len() - 9]), None);
        let secret = Secret { cluster: ClusterId(u128::MAX), secret: [0xA5; Seal::BYTES] };
        assert_eq!(Secret::decode(&secret.encode()), Some(secret.clone()));
        assert_eq!(Secret::decode(&secret.encode().replace("a5a5", "a5a")), None);
        assert!(!format!("{secret:?}").contains("a5"));
    }
}
