//! Disks, lanes and plans, for people and for programs.

use cairn_daemon::disks::map::DiskState;
use cairn_daemon::disks::{DiskStatus, LaneState, LaneStatus, Plan, Status};
use indicatif::HumanBytes;
use serde_json::{Value, json};

use super::work::Done;

/// How a disk is called in a sentence.
pub fn name(disk: &DiskStatus) -> String {
    disk.path.clone().unwrap_or_else(|| disk.entry.id.to_string())
}

fn state(disk: &DiskStatus) -> &'static str {
    match (disk.entry.state, disk.path.is_some()) {
        (_, false) => "missing",
        (DiskState::Active, _) => "active",
        (DiskState::Leaving, _) => "leaving",
    }
}

fn lanes_of<'a>(status: &'a Status, disk: &'a DiskStatus) -> impl Iterator<Item = &'a LaneStatus> {
    status.lanes.iter().filter(|lane| lane.entry.disk == disk.entry.id)
}

/// Chunks of a disk and their bytes.
fn held(status: &Status, disk: &DiskStatus) -> (u64, u64) {
    lanes_of(status, disk).fold((0, 0), |held, lane| match lane.state {
        LaneState::Open { chunks, bytes, .. } => (held.0 + chunks, held.1 + bytes),
        LaneState::Missing(_) => held,
    })
}

fn table(header: &[&str]) -> comfy_table::Table {
    let mut table = comfy_table::Table::new();
    table.load_preset(comfy_table::presets::NOTHING).set_header(header.to_vec());
    table
}

fn human(bytes: u64) -> String {
    HumanBytes(bytes).to_string()
}

pub fn text(status: &Status, done: Option<Done>) -> String {
    let mut rows = table(&["disk", "state", "lanes", "chunks", "bytes", "weight", "free", "directory"]);
    for disk in &status.disks {
        let (chunks, bytes) = held(status, disk);
        let lanes: Vec<String> = lanes_of(status, disk).map(|lane| lane.entry.number.to_string()).collect();
        let weight = human(disk.entry.weight_bytes) + if disk.entry.is_weight_set { " (set)" } else { "" };
        rows.add_row([
            disk.entry.id.to_string()[..8].to_owned(),
            state(disk).to_owned(),
            lanes.join(" "),
            chunks.to_string(),
            human(bytes),
            weight,
            disk.space.map_or_else(String::new, |space| human(space.free)),
            disk.path.clone().unwrap_or_default(),
        ]);
    }
    let settled = if status.map.is_settled { "every chunk is at home" } else { "chunks are still to be moved" };
    let mut lines =
        vec![format!("node {}, lane map {}: {settled}", status.map.node, status.map.epoch), rows.trim_fmt()];
    for disk in &status.disks {
        if disk.slots_to_move > 0 {
            lines.push(format!("{} has {} slots still to move", name(disk), disk.slots_to_move));
        }
        lines.extend(disk.held_by.iter().map(|reason| format!("{} can't leave: {reason}", name(disk))));
    }
    for lane in &status.lanes {
        let number = lane.entry.number;
        match &lane.state {
            LaneState::Missing(reason) => lines.push(format!("lane {number} is missing: {reason}")),
            LaneState::Open { lane, .. } => {
                if let Some(reason) = &lane.poisoned {
                    lines.push(format!("lane {number} takes no writes: {reason}"));
                }
                if lane.quarantined > 0 {
                    lines.push(format!("lane {number} has {} bad chunks", lane.quarantined));
                }
            }
        }
    }
    lines.extend(status.troubles.iter().map(|(path, reason)| format!("{path} isn't used: {reason}")));
    lines.extend(done.map(|done| {
        let slots = if done.slots > 0 { format!(" and {} slots", done.slots) } else { String::new() };
        format!("{} chunks of {}{slots} were moved", done.chunks, human(done.bytes))
    }));
    lines.join("\n")
}

pub fn json(status: &Status, done: Option<Done>) -> Value {
    let disks = status.disks.iter().map(|disk| {
        let (chunks, bytes) = held(status, disk);
        json!({
            "id": disk.entry.id.to_string(), "state": state(disk), "directory": disk.path, "chunks": chunks,
            "bytes": bytes, "weight_bytes": disk.entry.weight_bytes, "weight_set": disk.entry.is_weight_set,
            "total_bytes": disk.space.map(|space| space.total), "free_bytes": disk.space.map(|space| space.free),
            "slots_to_move": disk.slots_to_move, "held_by": disk.held_by,
        })
    });
    let lanes = status.lanes.iter().map(|lane| {
        let LaneStatus { entry, state } = lane;
        let mut value = json!({
            "number": entry.number, "name": entry.name.to_string(), "disk": entry.disk.to_string(),
        });
        let more = match state {
            LaneState::Missing(reason) => json!({ "missing": reason }),
            LaneState::Open { chunks, bytes, lane, .. } => json!({
                "chunks": chunks, "bytes": bytes, "poisoned": lane.poisoned.as_deref(), "has_room": lane.has_room,
                "quarantined": lane.quarantined,
            }),
        };
        if let (Value::Object(value), Value::Object(more)) = (&mut value, more) {
            value.extend(more);
        }
        value
    });
    let troubles = status.troubles.iter().map(|(path, reason)| json!({ "directory": path, "reason": reason }));
    json!({
        "node": status.map.node.to_string(),
        "cluster": status.map.cluster.to_string(),
        "epoch": status.map.epoch,
        "settled": status.map.is_settled,
        "disks": disks.collect::<Vec<_>>(),
        "lanes": lanes.collect::<Vec<_>>(),
        "not_used": troubles.collect::<Vec<_>>(),
        "moved": done.map(|done| json!({ "chunks": done.chunks, "bytes": done.bytes, "slots": done.slots })),
    })
}

pub fn plan_text(plan: &Plan, status: &Status) -> String {
    let (chunks, bytes) = plan.to_move();
    let mut lines = vec![format!(
        "would move {chunks} of {} chunks, {} of {}; nothing was changed",
        plan.chunks,
        human(bytes),
        human(plan.bytes)
    )];
    if !plan.moves.is_empty() {
        let mut rows = table(&["from lane", "to lane", "chunks", "bytes"]);
        for one in &plan.moves {
            rows.add_row([one.from.to_string(), one.to.to_string(), one.chunks.to_string(), human(one.bytes)]);
        }
        lines.push(rows.trim_fmt());
    }
    if plan.slots > 0 {
        lines.push(format!("would move {} slots", plan.slots));
    }
    for (id, incoming, room) in &plan.room {
        let disk = status.disks.iter().find(|disk| disk.entry.id == *id);
        let disk = disk.map_or_else(|| id.to_string(), name);
        lines.push(format!("{disk} would be given {}, and has room for about {}", human(*incoming), human(*room)));
    }
    lines.extend(plan.obstacles.iter().map(|obstacle| format!("not possible: {obstacle}")));
    lines.join("\n")
}

pub fn plan_json(plan: &Plan) -> Value {
    let (chunks, bytes) = plan.to_move();
    let moves = plan
        .moves
        .iter()
        .map(|one| json!({ "from": one.from, "to": one.to, "chunks": one.chunks, "bytes": one.bytes }));
    let room = plan.room.iter().map(
        |(disk, incoming, room)| json!({ "disk": disk.to_string(), "incoming_bytes": incoming, "room_bytes": room }),
    );
    json!({
        "chunks": plan.chunks, "bytes": plan.bytes, "move_chunks": chunks, "move_bytes": bytes,
        "move_slots": plan.slots, "moves": moves.collect::<Vec<_>>(), "room": room.collect::<Vec<_>>(), "obstacles": plan.obstacles,
        "possible": plan.obstacles.is_empty(),
    })
}
