//! Chunks of a node: storing, reading, dropping, listing, wherever among its lanes they are.
//!
//! | | every chunk at home | chunks may be anywhere |
//! | --- | --- | --- |
//! | put | its home; if that doesn't take it, chunks may be anywhere from now on | its home; if that doesn't take it, the lane that has it already, then the next in the ranking that takes it |
//! | get, has | its home | its home, then whichever has it |
//! | drop | its home | every lane |
//! | list, digest | all lanes, added up | all lanes three times over, each chunk counted once |
//!
//! While chunks may be anywhere, one core guides all that is done to a chunk, one thing at a time, so that what is copied
//! is not dropped half-way and what is dropped is not copied. Only a first look at a chunk's home does without.
//!
//! A listing looks at all lanes three times because a chunk may move from a lane not yet looked at to one that was. While a
//! view lasts it moves twice at most: off a leaving disk, and home. Either spoils one look only.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::ops::Range;
use std::rc::Rc;

use bytes::Bytes;
use cairn_io::log::{LogError, Payload};
use cairn_io::task::Class;
use cairn_meta::index::{ChunkId, Digest};
use cairn_placement::PartitionId;
use futures_util::future::try_join_all;

use super::hub::{Core, Line, OwnLane};
use super::view::{Held, Routing};
use super::{Disks, DisksError};
use crate::lane::{LaneError, Put, Verified};
use crate::line::to_the_end;

/// Chunks listed at once to add them up.
const PAGE: usize = 1024;

/// How often a listing looks at all lanes while chunks may be anywhere.
const LOOKS: usize = 3;

/// A chunk as a listing has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub id: ChunkId,
    /// Its length.
    pub length: u32,
    /// When somebody last wanted it kept: seconds since 2020.
    pub touched: u32,
}

/// How much of a chunk is wanted.
pub type Part = Option<Range<u64>>;

/// What came of an attempt to store a chunk.
enum Attempt {
    Done(Put),
    /// Its home doesn't take it, for this reason; another lane may if the map says that chunks may be anywhere.
    NotAtHome(DisksError),
}

impl Disks {
    /// Stores a chunk; durable when this returns. The caller has made sure that the bytes have this name. Goes on to the
    /// end although the caller may give up.
    ///
    /// # Errors
    /// If no lane takes it; the error is that of its home.
    pub async fn put(&self, id: ChunkId, payload: Payload) -> Result<Put, DisksError> {
        let core = self.core().clone();
        to_the_end(Class::Foreground, async move {
            loop {
                let view = core.enter();
                let epoch = view.map.epoch;
                let attempt = match view.routing {
                    Routing::Home => core.put_home(&view, id, payload.clone()).await?,
                    Routing::Search { .. } => {
                        let payload = payload.clone();
                        let put = move |core: Rc<Core>, view| async move { core.put_guided(&view, id, payload).await };
                        core.guide(Class::Foreground, id, put).await??
                    }
                };
                // A change waits for whoever holds a view.
                drop(view);
                match attempt {
                    Attempt::Done(put) => return Ok(put),
                    Attempt::NotAtHome(reason) => core.allow_elsewhere(epoch).await.map_err(|_| reason)?,
                }
            }
        })
        .await?
    }

    /// Reads a chunk whole; `None` if it isn't here.
    ///
    /// # Errors
    /// [`DisksError::Unavailable`] if a lane that may have it can't be asked; if its bytes are bad, or the disk fails.
    pub async fn get(&self, id: &ChunkId) -> Result<Option<Bytes>, DisksError> {
        self.read(*id, None).await
    }

    /// Reads a part of a chunk, cut where the chunk ends.
    ///
    /// # Errors
    /// As [`Disks::get`].
    pub async fn get_range(&self, id: &ChunkId, range: Range<u64>) -> Result<Option<Bytes>, DisksError> {
        self.read(*id, Some(range)).await
    }

    async fn read(&self, id: ChunkId, part: Part) -> Result<Option<Bytes>, DisksError> {
        let core = self.core();
        let view = core.enter();
        let Some(home) = view.ranked.home(&id.0) else {
            return core.guide(Class::Foreground, id, move |core, view| core.read_guided(view, id, part)).await?;
        };
        let at_home = core.read_at(&view, home, id, part.clone()).await;
        match (view.routing, at_home) {
            (Routing::Home, read) => read,
            (_, Ok(Some(bytes))) => Ok(Some(bytes)),
            (_, _) => core.guide(Class::Foreground, id, move |core, view| core.read_guided(view, id, part)).await?,
        }
    }

    /// Whether a chunk is here and, as far as is known, good.
    ///
    /// # Errors
    /// [`DisksError::Unavailable`] if a lane that may have it can't be asked; or if an index can't be read.
    pub async fn has(&self, id: &ChunkId) -> Result<bool, DisksError> {
        let (core, id) = (self.core(), *id);
        let view = core.enter();
        match (view.routing, view.ranked.home(&id.0)) {
            (Routing::Home, None) => Ok(false),
            (Routing::Home, Some(home)) => {
                let to = view.core_of(home).ok_or_else(|| DisksError::unavailable(id, vec![home]))?;
                let has = move |core: Rc<Core>| async move { Ok::<_, DisksError>(core.own(home)?.lane.has(&id)?) };
                core.run(Line::Lane, Class::Foreground, to, has).await?
            }
            (Routing::Search { .. }, _) => {
                let has = move |core: Rc<Core>, view: Held| async move {
                    let found = core.find(&view, id).await?;
                    match silent(&view, &found) {
                        _ if found.values().any(|standing| *standing == Standing::Good) => Ok(true),
                        missing if missing.is_empty() => Ok(false),
                        missing => Err(DisksError::unavailable(id, missing)),
                    }
                };
                core.guide(Class::Foreground, id, has).await?
            }
        }
    }

    /// Drops a chunk, wherever it is; durable when this returns. False if it wasn't here. Goes on to the end although the
    /// caller may give up.
    ///
    /// # Errors
    /// [`DisksError::Unavailable`] if a lane that may have it can't be asked: it could come back with that lane. Poisoned,
    /// or if the disk fails: then it is dropped or not.
    pub async fn drop_chunk(&self, id: &ChunkId) -> Result<bool, DisksError> {
        let (core, id) = (self.core().clone(), *id);
        to_the_end(Class::Foreground, async move {
            let view = core.enter();
            match (view.routing, view.ranked.home(&id.0)) {
                (Routing::Home, None) => Ok(false),
                (Routing::Home, Some(home)) => core.drop_at(&view, home, id).await,
                (Routing::Search { .. }, _) => {
                    let drop = move |core: Rc<Core>, view| async move { core.drop_guided(&view, id).await };
                    core.guide(Class::Foreground, id, drop).await?
                }
            }
        })
        .await?
    }

    /// Chunks of a partition in order of their names, after this one, at most so many; each once. What lies on lanes that
    /// are missing is not listed.
    ///
    /// # Errors
    /// If an index can't be read.
    pub async fn list(
        &self,
        partition: PartitionId,
        after: Option<&ChunkId>,
        max: usize,
    ) -> Result<Vec<Listed>, DisksError> {
        let core = self.core();
        let view = core.enter();
        core.list(&view, partition, after.copied(), max).await
    }

    /// What the node holds of a partition; each chunk counts once. What lies on lanes that are missing doesn't count. While
    /// chunks may be anywhere, this takes a listing.
    ///
    /// # Errors
    /// If an index can't be read.
    pub async fn digest(&self, partition: PartitionId) -> Result<Digest, DisksError> {
        let core = self.core();
        let view = core.enter();
        if view.routing != Routing::Home {
            drop(view);
            return core.digest_by_list(partition).await;
        }
        let digests = core.on_lanes(&view, move |own| Ok(own.lane.digest(partition))).await?;
        let mut all = Digest::default();
        digests.into_values().for_each(|digest| add(&mut all, &digest));
        Ok(all)
    }

    /// What the node holds, partition by partition: see [`Disks::digest`].
    ///
    /// # Errors
    /// If an index can't be read.
    pub async fn digests(&self) -> Result<Vec<Digest>, DisksError> {
        let core = self.core();
        let view = core.enter();
        let partitions = core.options.lane.partitions;
        let mut all = vec![Digest::default(); partitions as usize];
        if view.routing == Routing::Home {
            let digests = core.on_lanes(&view, |own| Ok(own.lane.digests())).await?;
            for digests in digests.into_values() {
                all.iter_mut().zip(&digests).for_each(|(all, digest)| add(all, digest));
            }
            return Ok(all);
        }
        drop(view);
        for partition in 0..partitions {
            all[partition as usize] = core.digest_by_list(PartitionId(partition)).await?;
        }
        Ok(all)
    }
}

fn add(all: &mut Digest, more: &Digest) {
    all.count += more.count;
    all.bytes += more.bytes;
    all.xor.iter_mut().zip(more.xor).for_each(|(all, more)| *all ^= more);
}

/// How a lane has a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Good,
    /// Its bytes are bad.
    Bad,
    /// It may have it: its index can't be read.
    Unknown,
}

impl Core {
    /// Does something to a chunk on the core that guides it, while nobody else does. It goes on to the end whoever waits:
    /// what was begun must be over before the next one begins.
    pub async fn guide<T, F>(
        self: &Rc<Self>,
        class: Class,
        id: ChunkId,
        work: impl FnOnce(Rc<Core>, Held) -> F + Send + 'static,
    ) -> Result<T, DisksError>
    where
        T: Send + 'static,
        F: Future<Output = T> + 'static,
    {
        let guided = move |core: Rc<Core>| async move {
            let view = core.enter();
            let claim = core.claims.take(id).await;
            let done = work(core, view).await;
            drop(claim);
            done
        };
        let to = self.guide_of(&id);
        if to == self.id {
            return Ok(to_the_end(class, guided(self.clone())).await?);
        }
        self.run(Line::Guide, class, to, guided).await
    }

    /// Something about each lane of the node that is there.
    pub async fn on_lanes<T: Send + 'static>(
        self: &Rc<Self>,
        view: &Held,
        ask: impl Fn(&OwnLane) -> Result<T, DisksError> + Clone + Send + 'static,
    ) -> Result<BTreeMap<u32, T>, DisksError> {
        let on_core = |to| {
            let (ask, lanes) = (ask.clone(), view.lanes_on(to));
            let each = move |core: Rc<Core>| async move {
                let asked = lanes.into_iter().map(|lane| Ok((lane, ask(&*core.own(lane)?)?)));
                asked.collect::<Result<Vec<(u32, T)>, DisksError>>()
            };
            async move { self.run(Line::Lane, Class::Foreground, to, each).await? }
        };
        let answers = try_join_all(view.cores().into_iter().map(on_core)).await?;
        Ok(answers.into_iter().flatten().collect())
    }

    /// Which lanes have a chunk.
    pub async fn find(self: &Rc<Self>, view: &Held, id: ChunkId) -> Result<BTreeMap<u32, Standing>, DisksError> {
        let found = self.on_lanes(view, move |own| Ok(standing(own, &id))).await?;
        Ok(found.into_iter().filter_map(|(lane, standing)| Some((lane, standing?))).collect())
    }

    async fn put_home(self: &Rc<Self>, view: &Held, id: ChunkId, payload: Payload) -> Result<Attempt, DisksError> {
        let home = view.ranked.home(&id.0).ok_or(DisksError::NoLane)?;
        match self.put_at(view, home, id, payload, Class::Foreground).await {
            Ok(put) => Ok(Attempt::Done(put)),
            Err(error) if error.may_go_elsewhere() => Ok(Attempt::NotAtHome(error)),
            Err(error) => Err(error),
        }
    }

    async fn put_guided(self: &Rc<Self>, view: &Held, id: ChunkId, payload: Payload) -> Result<Attempt, DisksError> {
        let reason = match self.put_home(view, id, payload.clone()).await? {
            Attempt::NotAtHome(reason) => reason,
            done @ Attempt::Done(_) => return Ok(done),
        };
        if view.routing != (Routing::Search { is_open: true }) {
            return Ok(Attempt::NotAtHome(reason));
        }
        let found = self.find(view, id).await?;
        let ranking = view.ranked.ranking(&id.0);
        // Where it is already it needs no room. The home has refused.
        let (have, others): (Vec<u32>, Vec<u32>) =
            ranking.into_iter().skip(1).partition(|lane| found.get(lane) == Some(&Standing::Good));
        for lane in have.into_iter().chain(others) {
            self.displaced.set(self.displaced.get() + 1);
            match self.put_at(view, lane, id, payload.clone(), Class::Foreground).await {
                Ok(put) => return Ok(Attempt::Done(put)),
                Err(error) if error.may_go_elsewhere() => {}
                Err(error) => return Err(error),
            }
        }
        Err(reason)
    }

    /// Stores a chunk in this lane.
    pub async fn put_at(
        self: &Rc<Self>,
        view: &Held,
        lane: u32,
        id: ChunkId,
        payload: Payload,
        class: Class,
    ) -> Result<Put, DisksError> {
        let to = view.core_of(lane).ok_or_else(|| DisksError::unavailable(id, vec![lane]))?;
        let put = move |core: Rc<Core>| async move {
            let own = core.own(lane)?;
            if let Some(reason) = own.lane.log().poisoned() {
                return Err(LaneError::Log(LogError::Poisoned(reason)).into());
            }
            let put = own.lane.put(id, payload).await;
            if put.is_err() && own.lane.log().poisoned().is_some() {
                own.doubtful.borrow_mut().insert(id);
            }
            Ok(put?)
        };
        self.run(Line::Lane, class, to, put).await?
    }

    /// Reads a chunk from this lane.
    pub async fn read_at(
        self: &Rc<Self>,
        view: &Held,
        lane: u32,
        id: ChunkId,
        part: Part,
    ) -> Result<Option<Bytes>, DisksError> {
        let to = view.core_of(lane).ok_or_else(|| DisksError::unavailable(id, vec![lane]))?;
        let read = move |core: Rc<Core>| async move {
            let own = core.own(lane)?;
            Ok(match part {
                None => own.lane.get(&id).await?,
                Some(range) => own.lane.get_range(&id, range).await?,
            })
        };
        self.run(Line::Lane, Class::Foreground, to, read).await?
    }

    async fn read_guided(self: Rc<Self>, view: Held, id: ChunkId, part: Part) -> Result<Option<Bytes>, DisksError> {
        let mut wrong = None;
        let found = self.find(&view, id).await?;
        for (&lane, &standing) in &found {
            if standing == Standing::Bad {
                wrong.get_or_insert(DisksError::Lane(LaneError::Quarantined(id)));
            }
            if standing != Standing::Good {
                continue;
            }
            match self.read_at(&view, lane, id, part.clone()).await {
                Ok(Some(bytes)) => return Ok(Some(bytes)),
                Ok(None) => {}
                Err(error) => wrong = Some(error),
            }
        }
        let missing = silent(&view, &found);
        match wrong {
            _ if !missing.is_empty() => Err(DisksError::unavailable(id, missing)),
            Some(error) => Err(error),
            None => Ok(None),
        }
    }

    /// Drops a chunk from this lane.
    pub async fn drop_at(self: &Rc<Self>, view: &Held, lane: u32, id: ChunkId) -> Result<bool, DisksError> {
        let to = view.core_of(lane).ok_or_else(|| DisksError::unavailable(id, vec![lane]))?;
        let drop = move |core: Rc<Core>| async move {
            let own = core.own(lane)?;
            let is_known = standing(&own, &id).is_some() || own.doubtful.borrow().contains(&id);
            if own.lane.log().poisoned().is_some() && !is_known {
                // It takes no writes any more, and none of this chunk was under way when that began.
                return Ok(false);
            }
            Ok(own.lane.drop_chunk(&id).await?)
        };
        self.run(Line::Lane, Class::Foreground, to, drop).await?
    }

    async fn drop_guided(self: &Rc<Self>, view: &Held, id: ChunkId) -> Result<bool, DisksError> {
        let missing = view.missing();
        if !missing.is_empty() {
            return Err(DisksError::unavailable(id, missing));
        }
        // Each lane is told, whatever its index says: it knows best what is still on its way.
        let lanes: Vec<u32> = view.places.keys().copied().collect();
        let mut was_here = false;
        for lane in lanes {
            was_here |= self.drop_at(view, lane, id).await?;
        }
        Ok(was_here)
    }

    /// Whether the bytes of a chunk in this lane have its name.
    pub async fn verify_at(self: &Rc<Self>, view: &Held, lane: u32, id: ChunkId) -> Result<Verified, DisksError> {
        let to = view.core_of(lane).ok_or_else(|| DisksError::unavailable(id, vec![lane]))?;
        let verify = move |core: Rc<Core>| async move { Ok(core.own(lane)?.lane.verify(&id).await?) };
        self.run(Line::Lane, Class::Maintenance, to, verify).await?
    }

    async fn list(
        self: &Rc<Self>,
        view: &Held,
        partition: PartitionId,
        after: Option<ChunkId>,
        max: usize,
    ) -> Result<Vec<Listed>, DisksError> {
        let mut all = BTreeMap::<ChunkId, Listed>::new();
        for _ in 0..if view.routing == Routing::Home { 1 } else { LOOKS } {
            let listed = self.on_lanes(view, move |own| Ok(own.lane.list(partition, after.as_ref(), max)?)).await?;
            for (id, entry) in listed.into_values().flatten() {
                let touched = all.get(&id).map_or(entry.touched, |before| before.touched.max(entry.touched));
                all.insert(id, Listed { id, length: entry.length, touched });
            }
        }
        Ok(all.into_values().take(max).collect())
    }

    /// Each page by a view of its own, so that no change has to wait for all of them.
    async fn digest_by_list(self: &Rc<Self>, partition: PartitionId) -> Result<Digest, DisksError> {
        let (mut digest, mut after) = (Digest::default(), None);
        loop {
            let page = self.list(&self.enter(), partition, after, PAGE).await?;
            page.iter().for_each(|listed| digest.add(&listed.id, listed.length));
            match page.last() {
                Some(last) if page.len() == PAGE => after = Some(last.id),
                _ => return Ok(digest),
            }
        }
    }

    /// Lets chunks be in other lanes than their home, unless the map has changed since `epoch` anyway.
    pub async fn allow_elsewhere(self: &Rc<Self>, epoch: u64) -> Result<(), DisksError> {
        let allow = move |core: Rc<Core>| async move { core.lead()?.allow_elsewhere(&core, epoch).await };
        self.run(Line::Lead, Class::Foreground, super::LEAD, allow).await?
    }
}

/// How this lane has a chunk.
fn standing(own: &OwnLane, id: &ChunkId) -> Option<Standing> {
    match own.lane.has(id).and_then(|has| Ok((has, own.lane.is_quarantined(id)?))) {
        Ok((true, _)) => Some(Standing::Good),
        Ok((false, true)) => Some(Standing::Bad),
        Ok((false, false)) => None,
        Err(_) => Some(Standing::Unknown),
    }
}

/// The lanes that may have a chunk and can't say.
fn silent(view: &Held, found: &BTreeMap<u32, Standing>) -> Vec<u32> {
    let unknown = found.iter().filter(|(_, standing)| **standing == Standing::Unknown).map(|(lane, _)| *lane);
    view.missing().into_iter().chain(unknown).collect()
}

impl DisksError {
    pub(super) fn unavailable(id: ChunkId, lanes: Vec<u32>) -> Self {
        Self::Unavailable { id, lanes }
    }

    /// Whether another lane may take what this one didn't.
    pub(super) fn may_go_elsewhere(&self) -> bool {
        match self {
            Self::Unavailable { .. } => true,
            Self::Lane(error) => {
                error.is_no_room()
                    || matches!(error, LaneError::Log(LogError::Poisoned(_) | LogError::Io(_)))
                    || matches!(error, LaneError::Io(_) | LaneError::Commit(_) | LaneError::Index(_))
            }
            _ => false,
        }
    }
}

/// A set of lanes as people read it.
pub fn names(lanes: &[u32]) -> String {
    let lanes: BTreeSet<u32> = lanes.iter().copied().collect();
    let words: Vec<String> = lanes.iter().map(ToString::to_string).collect();
    let what = if words.len() == 1 { "lane" } else { "lanes" };
    format!("{what} {}", words.join(", "))
}
