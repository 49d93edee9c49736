//! A file's pages: what a reader sees, what is durable, and every version in between that a power cut may bring back.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;

use crate::block::Block;
use crate::rng::Rng;

pub(super) const PAGE: usize = 4096;

/// `None` is all zeros.
type Content = Option<Rc<[u8; PAGE]>>;

/// Versions of a page kept between two syncs; some of the oldest are forgotten beyond that.
const VERSIONS_MAX: usize = 8;

pub(super) struct Inode {
    /// What a reader sees. A page that isn't here is a hole; one that is takes room, even if it is all zeros.
    pages: BTreeMap<u64, Content>,
    /// The pages among them that differ, or may differ, from what a power cut would leave.
    unsynced: BTreeMap<u64, Unsynced>,
    len: u64,
    len_durable: u64,
    /// Lengths since the last sync, with the numbers of their changes.
    lens: Vec<(u64, u64)>,
    /// The number of the last change.
    last: u64,
    /// What the syncs under way will cover.
    syncs: Vec<u64>,
    in_flight: Vec<InFlight>,
    in_flight_next: u64,
    /// Pages in use on the whole disk.
    used: Rc<Cell<u64>>,
}

struct Unsynced {
    durable: Content,
    /// Versions that came and went, oldest first.
    middle: Vec<(u64, Content)>,
    /// The number of the change that made the current version.
    latest: u64,
    /// A sync failed and took this page for clean: no later sync makes it durable, unless it is written again.
    forsaken: bool,
}

/// A write the disk is working on.
struct InFlight {
    id: u64,
    offset: u64,
    data: Vec<Block>,
    len: usize,
    /// Ranges that other writes changed meanwhile: there it's open which of the two comes last.
    rivals: Vec<Range<u64>>,
}

impl InFlight {
    fn range(&self) -> Range<u64> {
        self.offset..self.offset + self.len as u64
    }
}

impl Drop for Inode {
    fn drop(&mut self) {
        self.used.set(self.used.get() - self.pages.len() as u64);
    }
}

impl Inode {
    pub fn new(used: Rc<Cell<u64>>) -> Self {
        Self {
            pages: BTreeMap::new(),
            unsynced: BTreeMap::new(),
            len: 0,
            len_durable: 0,
            lens: Vec::new(),
            last: 0,
            syncs: Vec::new(),
            in_flight: Vec::new(),
            in_flight_next: 0,
            used,
        }
    }

    pub fn len(&self) -> u64 {
        self.len
    }

    pub fn has_pages(&self) -> bool {
        !self.pages.is_empty()
    }

    /// Fills `out` from `offset`, up to the end of the file; returns how much.
    pub fn read(&self, offset: u64, out: &mut [u8]) -> usize {
        let left = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX);
        let len = out.len().min(left);
        let mut done = 0;
        while done < len {
            let (page, from) = place(offset + done as u64);
            let part = (PAGE - from).min(len - done);
            let target = &mut out[done..done + part];
            match self.pages.get(&page) {
                Some(Some(content)) => target.copy_from_slice(&content[from..from + part]),
                _ => target.fill(0),
            }
            done += part;
        }
        len
    }

    /// As [`Self::read`], with writes under way showing through sector by sector.
    pub fn read_racing(&self, offset: u64, out: &mut [u8], rng: &mut Rng, sector: usize) -> usize {
        let len = self.read(offset, out);
        let wanted = offset..offset + len as u64;
        for write in &self.in_flight {
            let shared = overlap(&write.range(), &wanted);
            let mut at = shared.start;
            while at < shared.end {
                let end = next_sector(at, sector).min(shared.end);
                if rng.chance(500_000) {
                    let target = &mut out[span(offset, at)..span(offset, end)];
                    fetch(&write.data, span(write.offset, at), target);
                }
                at = end;
            }
        }
        len
    }

    /// How many pages a write of this range would add.
    pub fn pages_missing(&self, range: Range<u64>) -> u64 {
        let pages = page_range(&range);
        let held = self.pages.range(pages.clone()).count() as u64;
        (pages.end - pages.start).saturating_sub(held)
    }

    /// A write has reached the disk; [`Self::land`] ends it.
    pub fn launch(&mut self, offset: u64, data: Vec<Block>) -> u64 {
        self.in_flight_next += 1;
        let len = data.iter().map(|block| block.len()).sum();
        self.in_flight.push(InFlight { id: self.in_flight_next, offset, data, len, rivals: Vec::new() });
        self.in_flight_next
    }

    /// Takes a write out of flight: its offset, its data, and where it may lose against others.
    fn take(&mut self, id: u64) -> Option<InFlight> {
        let place = self.in_flight.iter().position(|write| write.id == id)?;
        Some(self.in_flight.remove(place))
    }

    /// A write under way comes to nothing.
    pub fn abort(&mut self, id: u64) -> Option<Vec<Block>> {
        self.take(id).map(|write| write.data)
    }

    /// A write under way ends: its first `len_max` bytes become what readers see.
    pub fn land(&mut self, id: u64, len_max: u64, rng: &mut Rng, sector: usize) {
        let Some(mut write) = self.take(id) else { return };
        write.len = write.len.min(usize::try_from(len_max).unwrap_or(usize::MAX));
        let range = write.range();
        for other in &mut self.in_flight {
            let shared = overlap(&other.range(), &range);
            if !shared.is_empty() {
                other.rivals.push(shared);
            }
        }
        let rivals = std::mem::take(&mut write.rivals);
        // Where nobody competes, whole pages are copied at once.
        let sector = if rivals.is_empty() { PAGE } else { sector };
        self.write(&write, sector, &mut |at| !rivals.iter().any(|range| range.contains(&at)) || rng.chance(500_000));
    }

    /// Writes `data` at `offset`, never beyond the end of the file: where a misdirected write lands.
    pub fn hit(&mut self, offset: u64, data: Vec<Block>) {
        let len = data.iter().map(|block| block.len()).sum::<usize>();
        let len = len.min(usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX));
        self.write(&InFlight { id: 0, offset, data, len, rivals: Vec::new() }, PAGE, &mut |_| true);
    }

    /// Writes those sectors for which `wins` says so.
    fn write(&mut self, write: &InFlight, sector: usize, wins: &mut dyn FnMut(u64) -> bool) {
        if write.len == 0 {
            return;
        }
        self.last += 1;
        let range = write.range();
        for page in page_range(&range) {
            let base = page * PAGE as u64;
            let part = overlap(&range, &(base..base + PAGE as u64));
            let mut content = match self.pages.get(&page) {
                Some(Some(held)) if part.end - part.start < PAGE as u64 => **held,
                _ => [0; PAGE],
            };
            self.merge(page, &part, write, sector, wins, &mut content);
            self.change(page, Some(Rc::new(content)));
        }
        if range.end > self.len {
            self.change_len(range.end);
        }
    }

    fn merge(
        &self,
        page: u64,
        part: &Range<u64>,
        write: &InFlight,
        sector: usize,
        wins: &mut dyn FnMut(u64) -> bool,
        content: &mut [u8; PAGE],
    ) {
        let base = page * PAGE as u64;
        let old = self.pages.get(&page).and_then(Option::as_ref);
        let mut at = part.start;
        while at < part.end {
            let end = next_sector(at, sector).min(part.end);
            let target = &mut content[span(base, at)..span(base, end)];
            match (wins(at), old) {
                (true, _) => fetch(&write.data, span(write.offset, at), target),
                (false, Some(old)) => target.copy_from_slice(&old[span(base, at)..span(base, end)]),
                (false, None) => target.fill(0),
            }
            at = end;
        }
    }

    /// Makes `content` the page's current version, as part of the change numbered `last`.
    fn change(&mut self, page: u64, content: Content) {
        let old = self.pages.insert(page, content);
        if old.is_none() {
            self.used.set(self.used.get() + 1);
        }
        self.note_change(page, old.flatten());
    }

    /// The page becomes a hole.
    fn dig(&mut self, page: u64) {
        if let Some(old) = self.pages.remove(&page) {
            self.used.set(self.used.get() - 1);
            self.note_change(page, old);
        }
    }

    fn note_change(&mut self, page: u64, old: Content) {
        let latest = self.last;
        let fresh = || Unsynced { durable: old.clone(), middle: Vec::new(), latest, forsaken: false };
        let mut is_new = false;
        let entry = self.unsynced.entry(page).or_insert_with(|| {
            is_new = true;
            fresh()
        });
        if is_new || entry.latest == latest {
            return;
        }
        if !std::mem::replace(&mut entry.forsaken, false) {
            entry.middle.push((entry.latest, old));
            forget_some(&mut entry.middle, &self.syncs);
        }
        entry.latest = latest;
    }

    fn change_len(&mut self, len: u64) {
        self.len = len;
        self.lens.push((self.last, len));
    }

    /// Reserves room: pages that read as zeros, and the length to hold them.
    pub fn allocate(&mut self, range: Range<u64>) {
        self.last += 1;
        for page in page_range(&range) {
            if !self.pages.contains_key(&page) {
                self.change(page, None);
            }
        }
        if range.end > self.len {
            self.change_len(range.end);
        }
    }

    /// Gives whole pages back and zeroes the parts of others.
    pub fn punch(&mut self, range: Range<u64>) {
        self.last += 1;
        for page in page_range(&range) {
            let base = page * PAGE as u64;
            let part = overlap(&range, &(base..base + PAGE as u64));
            if part.end - part.start == PAGE as u64 {
                self.dig(page);
            } else if let Some(Some(held)) = self.pages.get(&page) {
                let mut content = **held;
                content[span(base, part.start)..span(base, part.end)].fill(0);
                self.change(page, Some(Rc::new(content)));
            }
        }
    }

    pub fn set_len(&mut self, len: u64) {
        if len < self.len {
            let end = self.len.next_multiple_of(PAGE as u64).max(len);
            self.punch(len..end);
            let beyond: Vec<u64> = self.pages.range(len.div_ceil(PAGE as u64)..).map(|(page, _)| *page).collect();
            for page in beyond {
                self.dig(page);
            }
        } else {
            self.last += 1;
        }
        self.change_len(len);
    }

    /// A sync begins; returns what it will cover.
    pub fn sync_begins(&mut self) -> u64 {
        self.syncs.push(self.last);
        self.last
    }

    fn sync_is_over(&mut self, cut: u64) {
        if let Some(place) = self.syncs.iter().position(|held| *held == cut) {
            self.syncs.swap_remove(place);
        }
    }

    /// A sync has succeeded: what was written before it began is durable.
    pub fn settle(&mut self, cut: u64) {
        self.sync_is_over(cut);
        self.unsynced.retain(|_, page| {
            if page.forsaken {
                return true;
            }
            if page.latest <= cut {
                return false;
            }
            let covered = page.middle.partition_point(|(number, _)| *number <= cut);
            if let Some((_, content)) = page.middle.drain(..covered).next_back() {
                page.durable = content;
            }
            true
        });
        let covered = self.lens.partition_point(|(number, _)| *number <= cut);
        if let Some((_, len)) = self.lens.drain(..covered).next_back() {
            self.len_durable = len;
        }
    }

    /// A sync has failed: some pages are durable all the same, some wait for the next one, and some are taken for clean
    /// and will never be durable, as Linux does it.
    pub fn sync_fails(&mut self, cut: u64, rng: &mut Rng) {
        self.sync_is_over(cut);
        self.unsynced.retain(|_, page| {
            if page.forsaken || page.latest > cut {
                return true;
            }
            match rng.below(3) {
                0 => return false,
                1 => page.forsaken = true,
                _ => {}
            }
            true
        });
    }

    /// The process is gone: writes under way end wholly, partly or not at all.
    pub fn end_in_flight(&mut self, rng: &mut Rng, sector: usize) {
        self.syncs.clear();
        for write in std::mem::take(&mut self.in_flight) {
            match rng.below(3) {
                0 => {}
                1 => self.write(&write, sector, &mut |_| true),
                _ => {
                    self.write(&write, sector, &mut |_| rng.chance(500_000));
                }
            }
        }
    }

    /// The power is cut: every sector not synced becomes one of its versions. Those from `tears_from` on may be torn.
    pub fn power_cut(&mut self, rng: &mut Rng, sector: usize, tears_from: Option<u64>) {
        self.end_in_flight(rng, sector);
        // Some crashes keep nearly everything and some nearly nothing; a fair coin per sector would find neither.
        let keep = [0, 100_000, 500_000, 900_000, 1_000_000][usize::try_from(rng.below(5)).expect("below 5")];
        let lottery = Lottery { keep, sector, tears_from };
        for (page, versions) in std::mem::take(&mut self.unsynced) {
            let current = self.pages.get(&page).cloned().flatten();
            let left = lottery.draw_page(rng, page, &versions, &current);
            let was_hole = !self.pages.contains_key(&page);
            if was_hole && left.is_none() {
                continue;
            }
            self.pages.insert(page, left);
            if was_hole {
                self.used.set(self.used.get() + 1);
            }
        }
        let lens = std::mem::take(&mut self.lens);
        let drawn = if rng.chance(keep) { lens.len() as u64 } else { rng.below(lens.len() as u64 + 1) };
        let place = usize::try_from(drawn).expect("a place in memory");
        let len = if place == 0 { self.len_durable } else { lens[place - 1].1 };
        self.cut_to(len);
    }

    /// Sets the length for good, with nothing behind it.
    fn cut_to(&mut self, len: u64) {
        self.len = len;
        let all = self.pages.len();
        self.pages.retain(|page, _| page * (PAGE as u64) < len);
        self.used.set(self.used.get() - (all - self.pages.len()) as u64);
        let (last, from) = place(len);
        if let Some(Some(content)) = self.pages.get_mut(&last) {
            Rc::make_mut(content)[from..].fill(0);
        }
        self.len_durable = len;
        self.unsynced.clear();
    }

    /// Flips one bit of one page, where it lies; returns the place of its byte.
    ///
    /// # Panics
    /// If there is no page.
    pub fn rot(&mut self, rng: &mut Rng) -> u64 {
        let place = usize::try_from(rng.below(self.pages.len() as u64)).expect("a place in memory");
        let bit = usize::try_from(rng.below(PAGE as u64 * 8)).expect("a bit of a page");
        let (page, content) = self.pages.iter_mut().nth(place).expect("a page that is there");
        let bytes = content.get_or_insert_with(|| Rc::new([0; PAGE]));
        Rc::make_mut(bytes)[bit / 8] ^= 1 << (bit % 8);
        page * PAGE as u64 + (bit / 8) as u64
    }
}

/// How a power cut chooses.
struct Lottery {
    /// In a million: the newest version of a sector stays.
    keep: u32,
    sector: usize,
    tears_from: Option<u64>,
}

impl Lottery {
    fn draw_page(&self, rng: &mut Rng, page: u64, versions: &Unsynced, current: &Content) -> Content {
        match self.keep {
            0 if versions.middle.is_empty() => return versions.durable.clone(),
            1_000_000 if !versions.forsaken => return current.clone(),
            _ => {}
        }
        let mut bytes = [0; PAGE];
        for start in (0..PAGE).step_by(self.sector) {
            let sector = start..start + self.sector;
            let drawn = self.draw_version(rng, versions, current);
            copy(drawn, &sector, &mut bytes);
            let at = page * PAGE as u64 + start as u64;
            if self.tears_from.is_some_and(|from| at >= from) && rng.chance(20_000) {
                let tear = start + usize::try_from(rng.below(self.sector as u64)).expect("within a sector");
                copy(&versions.durable, &(tear..sector.end), &mut bytes);
            }
        }
        Some(Rc::new(bytes))
    }

    fn draw_version<'a>(&self, rng: &mut Rng, versions: &'a Unsynced, current: &'a Content) -> &'a Content {
        let keep = if versions.forsaken { self.keep / 10 } else { self.keep };
        if rng.chance(keep) {
            return current;
        }
        let drawn = usize::try_from(rng.below(versions.middle.len() as u64 + 1)).expect("a place in memory");
        versions.middle.get(drawn).map_or(&versions.durable, |(_, content)| content)
    }
}

fn copy(from: &Content, range: &Range<usize>, to: &mut [u8; PAGE]) {
    match from {
        Some(content) => to[range.clone()].copy_from_slice(&content[range.clone()]),
        None => to[range.clone()].fill(0),
    }
}

/// Forgets a version when there are too many: never one that a sync under way may have to bring back.
fn forget_some(middle: &mut Vec<(u64, Content)>, syncs: &[u64]) {
    if middle.len() <= VERSIONS_MAX {
        return;
    }
    let needed = |from: u64, to: u64| syncs.iter().any(|cut| (from..to).contains(cut));
    if let Some(place) = (1..middle.len()).find(|&place| !needed(middle[place - 1].0, middle[place].0)) {
        middle.remove(place - 1);
    }
}

fn place(offset: u64) -> (u64, usize) {
    let page = PAGE as u64;
    (offset / page, usize::try_from(offset % page).expect("within a page"))
}

/// From `base` to `at`, both within one write or page.
fn span(base: u64, at: u64) -> usize {
    usize::try_from(at - base).expect("a span in memory")
}

fn page_range(range: &Range<u64>) -> Range<u64> {
    if range.is_empty() {
        return 0..0;
    }
    range.start / PAGE as u64..range.end.div_ceil(PAGE as u64)
}

fn overlap(left: &Range<u64>, right: &Range<u64>) -> Range<u64> {
    let start = left.start.max(right.start);
    start..left.end.min(right.end).max(start)
}

fn next_sector(at: u64, sector: usize) -> u64 {
    (at / sector as u64 + 1) * sector as u64
}

/// Copies from the blocks, laid end to end, from byte `at` on.
fn fetch(data: &[Block], mut at: usize, mut out: &mut [u8]) {
    for block in data {
        if out.is_empty() {
            return;
        }
        if at >= block.len() {
            at -= block.len();
            continue;
        }
        let part = (block.len() - at).min(out.len());
        let (now, later) = out.split_at_mut(part);
        now.copy_from_slice(&block[at..at + part]);
        out = later;
        at = 0;
    }
}
