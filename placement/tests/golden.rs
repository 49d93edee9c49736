//! Golden vectors: placement is the same function in every build and every language, for ever (3FS 368: it depended on
//! an unspecified library function and differed by compiler). `tests/fixtures/golden.txt` was checked against an
//! implementation in Python that was written from `docs/placement.md`. If this fails, data would be sought in the
//! wrong place: never change the fixture, change the code back.

use cairn_placement::rank::{Candidate, Strategy};
use cairn_placement::score::{Cost, Reciprocal, log2_table_entries, minus_log2, pair_hash};
use cairn_placement::{Group, NodeId, PartitionId, SlotId};

const GROUPS: [u32; 6] = [0, 1, 17, 4095, 65_535, u32::MAX];
const NODES: [u64; 5] = [1, 2, 1000, 0x0123_4567_89AB_CDEF, u64::MAX];
const WEIGHTS: [u32; 4] = [1, 931, 16_764, u32::MAX];
const HASHES: [u64; 8] = [0, 1, 0xFFFF, 1 << 32, 1 << 63, 0xDEAD_BEEF_0BAD_F00D, 0xFFFF_FFFF_FFFF_0000, u64::MAX];

fn groups() -> impl Iterator<Item = (&'static str, u32, Group)> {
    let both = |number| {
        let (partition, slot) = (Group::Partition(PartitionId(number)), Group::Slot(SlotId(number)));
        [("partition", number, partition), ("slot", number, slot)]
    };
    GROUPS.into_iter().flat_map(both)
}

fn rankings(lines: &mut Vec<String>) {
    let candidate = |id: u64| Candidate { id: NodeId(id), weight: 100 * (1 + id as u32 % 4) };
    let candidates: Vec<Candidate> = (1..=12).map(candidate).collect();
    let strategies = [
        ("rendezvous", Strategy::Rendezvous),
        ("ring", Strategy::Ring { weight_per_token: 16 }),
        ("modulo", Strategy::Modulo),
    ];
    let mut best = Vec::new();
    for (name, strategy) in strategies {
        let rank = strategy.prepare(&candidates);
        for (kind, number, group) in groups() {
            rank.best(group, 5, &mut best);
            let ids: Vec<String> = best.iter().map(|place| candidates[*place as usize].id.0.to_string()).collect();
            lines.push(format!("rank {name} {kind} {number} {}", ids.join(" ")));
        }
    }
}

fn lines() -> Vec<String> {
    let mut lines = Vec::new();
    lines.extend(log2_table_entries().iter().enumerate().map(|(step, entry)| format!("log2 {step} {entry}")));
    lines.extend(HASHES.iter().map(|hash| format!("minus_log2 {hash} {}", minus_log2(*hash))));
    for (kind, number, group) in groups() {
        for node in NODES.map(NodeId) {
            lines.push(format!("hash {kind} {number} {} {}", node.0, pair_hash(group, node)));
            for weight in WEIGHTS {
                let reciprocal = Reciprocal::of_weight(weight).expect("not 0");
                let Cost(cost) = Cost::of(group, node, reciprocal);
                lines.push(format!("cost {kind} {number} {} {weight} {cost}", node.0));
            }
        }
    }
    for number in 0..20 {
        let mut name = [0; 32];
        name[..8].copy_from_slice(&(u64::MAX / 20 * number).to_be_bytes());
        lines.push(format!("partition_of {} 4096 {}", u64::MAX / 20 * number, PartitionId::of_chunk(&name, 4096).0));
        let key = format!("photos/{number}.jpg");
        lines.push(format!("slot_of 7 {key} 256 {}", SlotId::of_key(7, key.as_bytes(), 256).0));
    }
    rankings(&mut lines);
    lines
}

#[test]
fn golden_vectors_hold() {
    // For when vectors are added to the fixture, never for changing those that are there.
    if std::env::var_os("CAIRN_GOLDEN_PRINT").is_some() {
        lines().iter().for_each(|line| println!("{line}"));
    }
    let golden: Vec<&str> = include_str!("fixtures/golden.txt").lines().collect();
    let lines = lines();
    for (line, golden) in lines.iter().zip(&golden) {
        assert_eq!(line, golden);
    }
    assert_eq!(lines.len(), golden.len(), "every vector is there");
}
