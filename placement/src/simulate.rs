//! What a map implies, counted: how even it is, what a change moves, what failures lose. For people who plan a cluster.
//!
//! Draws are hashes of their own number, so that a table in the documentation can be made again.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::id::NodeId;
use crate::select::{Placer, Table};

/// How many partitions each node that may be chosen holds, in the order of ids.
pub fn balance(placer: &Placer<'_>) -> Vec<(NodeId, u64)> {
    let candidates = placer.map().nodes().iter().filter(|node| placer.is_candidate(node.id));
    let mut held: Vec<(NodeId, u64)> = candidates.map(|node| (node.id, 0)).collect();
    let table = placer.table();
    for node in placer.map().partitions().flat_map(|partition| table.nodes(partition)) {
        if let Ok(at) = held.binary_search_by_key(node, |(id, _)| *id) {
            held[at].1 += 1;
        }
    }
    held
}

/// What a change of the map moves, in copies or pieces of partitions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Movement {
    /// There are.
    pub copies: u64,
    /// Lie on a node afterwards that didn't hold them before.
    pub moved: u64,
    /// Had to move: those of nodes that may hold nothing any more, and the share by weight of nodes that are new.
    pub share: u64,
}

/// Compares two maps with the same partitions.
pub fn movement(before: &Placer<'_>, after: &Placer<'_>) -> Movement {
    let (old, new) = (before.table(), after.table());
    let mut movement = Movement::default();
    for partition in after.map().partitions() {
        let (had, has) = (old.nodes(partition), new.nodes(partition));
        movement.copies += has.len() as u64;
        movement.moved += has.iter().filter(|node| !had.contains(node)).count() as u64;
        movement.share += had.iter().filter(|node| !after.is_candidate(**node)).count() as u64;
    }
    let weight = |of: &dyn Fn(NodeId) -> bool| -> u128 {
        let nodes = after.map().nodes().iter().filter(|node| after.is_candidate(node.id) && of(node.id));
        nodes.map(|node| u128::from(node.weight())).sum()
    };
    let (fresh, all) = (weight(&|node| !before.is_candidate(node)), weight(&|_| true));
    movement.share += (u128::from(movement.copies) * fresh / all.max(1)) as u64;
    movement
}

/// How often so many failures at once lost something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loss {
    /// Draws.
    pub trials: u64,
    /// Draws after which some partition could no longer be read.
    pub with_loss: u64,
    /// Partitions that could no longer be read, over all draws.
    pub partitions: u64,
}

/// Draws `failures` of these units (nodes, or racks with all their nodes) `trials` times and counts what is lost.
pub fn losses(placer: &Placer<'_>, units: &[Vec<NodeId>], failures: usize, trials: u64) -> Loss {
    let redundancy = placer.policy().redundancy;
    let table = placer.table();
    let mut loss = Loss { trials, ..Loss::default() };
    for trial in 0..trials {
        let mut failed: Vec<NodeId> =
            draw(units.len(), failures, trial).flat_map(|unit| &units[unit]).copied().collect();
        failed.sort_unstable();
        let lost = lost_partitions(placer, &table, &failed, redundancy.enough());
        loss.partitions += lost;
        loss.with_loss += u64::from(lost > 0);
    }
    loss
}

fn lost_partitions(placer: &Placer<'_>, table: &Table, failed: &[NodeId], enough: usize) -> u64 {
    let is_lost = |partition: &crate::id::PartitionId| {
        let nodes = table.nodes(*partition);
        nodes.iter().filter(|node| failed.binary_search(node).is_err()).count() < enough
    };
    placer.map().partitions().filter(is_lost).count() as u64
}

/// `count` of the numbers below `of`, each set as likely as any other: those with the least hashes.
fn draw(of: usize, count: usize, trial: u64) -> impl Iterator<Item = usize> {
    let mut hashed: Vec<(u64, usize)> =
        (0..of).map(|number| (xxh3_64_with_seed(&(number as u64).to_le_bytes(), trial), number)).collect();
    let count = count.min(of);
    if count > 0 && count < of {
        hashed.select_nth_unstable(count - 1);
    }
    hashed.truncate(count);
    hashed.into_iter().map(|(_, number)| number)
}

/// Every node that may be chosen, each a unit of its own.
pub fn node_units(placer: &Placer<'_>) -> Vec<Vec<NodeId>> {
    let candidates = placer.map().nodes().iter().filter(|node| placer.is_candidate(node.id));
    candidates.map(|node| vec![node.id]).collect()
}

/// The nodes that may be chosen, one unit for each value of a label.
pub fn label_units(placer: &Placer<'_>, label: &str) -> Vec<Vec<NodeId>> {
    let mut units = std::collections::BTreeMap::<&str, Vec<NodeId>>::new();
    for node in placer.map().nodes().iter().filter(|node| placer.is_candidate(node.id)) {
        if let Some(value) = node.labels.get(label) {
            units.entry(value).or_default().push(node.id);
        }
    }
    units.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::map::{Map, Node, NodeState, Parts};
    use crate::policy::{Need, Policy};

    fn map() -> Map {
        let nodes = (1..=30).map(|id| Node::new(id, 1 << 42).label("rack", &format!("r{}", id % 6))).collect();
        let policies = vec![Policy::copies("p", 3).spread("rack", 2, Need::Required)];
        Map::new(Parts { nodes, policies, meta: "p".to_owned(), partitions: 512, ..Parts::default() })
            .expect("it is right")
    }

    #[test]
    fn fewer_failures_than_copies_lose_nothing_and_all_lose_everything() {
        let map = map();
        let placer = Placer::new(&map, map.meta_policy());
        let (nodes, racks) = (node_units(&placer), label_units(&placer, "rack"));
        assert_eq!((nodes.len(), racks.len()), (30, 6));
        for failures in 0..=2 {
            assert_eq!(losses(&placer, &nodes, failures, 50).with_loss, 0);
        }
        assert_eq!(losses(&placer, &racks, 1, 50).with_loss, 0, "two racks bear the loss of one");
        assert_eq!(losses(&placer, &nodes, 30, 2), Loss { trials: 2, with_loss: 2, partitions: 1024 });
        assert!(losses(&placer, &nodes, 8, 50).with_loss > 0);
    }

    #[test]
    fn draws_are_sets_of_the_right_size() {
        for trial in 0..100 {
            let mut drawn: Vec<usize> = draw(10, 4, trial).collect();
            drawn.sort_unstable();
            drawn.dedup();
            assert!(drawn.len() == 4 && drawn.iter().all(|number| *number < 10));
        }
        assert_eq!((draw(3, 9, 0).count(), draw(0, 1, 0).count(), draw(3, 0, 0).count()), (3, 0, 0));
    }

    #[test]
    fn balance_and_movement_count_every_copy() {
        let map = map();
        let drained = map.with_state(NodeId(3), NodeState::Draining);
        let (before, after) = (Placer::new(&map, map.meta_policy()), Placer::new(&drained, drained.meta_policy()));
        let held = balance(&before);
        assert_eq!(held.iter().map(|(_, count)| count).sum::<u64>(), 512 * 3);
        let moved = movement(&before, &after);
        assert_eq!((moved.copies, moved.moved), (512 * 3, held[2].1));
        assert_eq!(moved.share, moved.moved);
    }
}
