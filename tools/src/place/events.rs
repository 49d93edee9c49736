//! What happens to an imagined cluster: a file with one event a line.

use std::fmt;
use std::path::Path;

use cairn_placement::{Map, Node, NodeId, NodeState};

use super::files;
use crate::out::Failure;

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// So many more nodes, alike.
    Add(u64),
    /// A node is emptied.
    Drain(u64),
    /// A node fails.
    Offline(u64),
    /// All nodes of a rack fail.
    OfflineRack(String),
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Add(count) => write!(f, "add {count}"),
            Self::Drain(node) => write!(f, "drain {node}"),
            Self::Offline(node) => write!(f, "offline {node}"),
            Self::OfflineRack(rack) => write!(f, "offline rack {rack}"),
        }
    }
}

/// The most nodes that one event may add.
const ADD_MAX: u64 = 10_000;

impl Event {
    /// The map after it. `node` makes a new node of an id and the number of racks.
    pub(super) fn apply(&self, map: &Map, node: impl Fn(u64, u64) -> Node) -> Result<Map, Failure> {
        let state = |id: u64, state| {
            let known = map.node(NodeId(id)).is_some();
            let unknown = || Failure::Input(format!("{self}: there is no node {id}"));
            known.then(|| map.with_state(NodeId(id), state)).ok_or_else(unknown)
        };
        match self {
            Self::Drain(id) => state(*id, NodeState::Draining),
            Self::Offline(id) => state(*id, NodeState::Offline),
            Self::OfflineRack(rack) => {
                let inside = map.nodes().iter().filter(|node| node.labels.get("rack") == Some(rack));
                let ids: Vec<NodeId> = inside.map(|node| node.id).collect();
                let off = |map: Map, id: &NodeId| map.with_state(*id, NodeState::Offline);
                let unknown = || Failure::Input(format!("{self}: there is no rack {rack:?}"));
                if ids.is_empty() { Err(unknown()) } else { Ok(ids.iter().fold(map.clone(), off)) }
            }
            Self::Add(count) => {
                let last = map.nodes().last().map_or(0, |node| node.id.0);
                let racks = map.nodes().iter().filter_map(|node| node.labels.get("rack"));
                let racks = racks.collect::<std::collections::BTreeSet<_>>().len().max(1) as u64;
                let grown = map.with_nodes(|nodes| nodes.extend((1..=*count).map(|more| node(last + more, racks))));
                grown.map_err(|faults| Failure::Input(format!("{self}: {}", faults[0])))
            }
        }
    }
}

pub(super) fn read_events(path: &Path) -> Result<Vec<Event>, Failure> {
    let text = files::read(path, "--events")?;
    parse(&text).map_err(|problem| Failure::Input(format!("{}, {problem}", path.display())))
}

fn parse(text: &str) -> Result<Vec<Event>, String> {
    let mut events = Vec::new();
    for (line, number) in text.lines().zip(1..) {
        let words: Vec<&str> = line.split('#').next().unwrap_or_default().split_whitespace().collect();
        let wrong = || {
            let forms = "write `add COUNT`, `drain NODE`, `offline NODE` or `offline rack RACK`";
            format!("line {number}: {line:?} is no event; {forms}")
        };
        let count = |word: &str| word.parse::<u64>().map_err(|_| wrong());
        events.push(match words[..] {
            [] => continue,
            ["add", word] => Event::Add(count(word).ok().filter(|count| *count <= ADD_MAX).ok_or_else(wrong)?),
            ["drain", word] => Event::Drain(count(word)?),
            ["offline", "rack", rack] => Event::OfflineRack(rack.to_owned()),
            ["offline", word] => Event::Offline(count(word)?),
            _ => return Err(wrong()),
        });
    }
    Ok(events)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_and_nonsense_is_refused_with_its_line() {
        let events =
            parse("# first\nadd 10\n\noffline rack r3 # power\ndrain 7\noffline 8\n").expect("they are events");
        let written: Vec<String> = events.iter().map(Event::to_string).collect();
        assert_eq!(written, ["add 10", "offline rack r3", "drain 7", "offline 8"]);
        for text in ["add", "add -1", "add 99999999", "explode 3", "drain n7"] {
            assert!(parse(&format!("\n{text}")).expect_err(text).starts_with("line 2: "));
        }
    }
}
