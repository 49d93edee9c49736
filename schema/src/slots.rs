//! Commit, read and list: requests and answers of objects.

use crate::cairn_capnp as schema;
use crate::error::{Answer, Error};
use crate::hello::CallInfo;
use crate::limits::{COMMITS_MAX, KEY_BYTES_MAX, LIST_MAX, PAGE_MAX, TEXT_BYTES_MAX};
use crate::version::{
    Content, Dot, Seen, Version, VersionId, VersionKind, VersionState, check_size, read_context, read_ids,
};
use crate::wire::{
    InField, Malformed, Request, Wire, list_len, read_array_or_none, read_data, read_list, read_text, wire_enum,
    write_list,
};

/// What a condition must find at the preferred head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Nothing, or a tombstone or delete marker.
    Absent,
    /// Data.
    Exists,
    /// Data with one of these ETags.
    EtagIn(Vec<String>),
    /// Nothing, or data with none of these ETags.
    EtagNotIn(Vec<String>),
    /// This version.
    Head(VersionId),
}

/// A version made elsewhere, provisionally; its content is the commit's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Import {
    /// Takes effect once.
    pub id: VersionId,
    /// As it was made.
    pub parents: Vec<VersionId>,
    /// As it was made.
    pub dot: Dot,
    /// As it was made.
    pub context: Vec<Seen>,
    /// As it was made.
    pub modified: u64,
    /// As it was made.
    pub is_null: bool,
}

/// How a commit relates to what is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CommitMode {
    /// Replaces the preferred head.
    #[default]
    Overwrite,
    /// Replaces these, or becomes a branch.
    Derive(Vec<VersionId>),
    /// Replaces the preferred head if all of these hold.
    Conditional(Vec<Condition>),
    /// Replaces all of these.
    Merge(Vec<VersionId>),
    /// Brings in a version made elsewhere.
    Import(Import),
}

/// One version to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Commit {
    /// The bucket.
    pub bucket: u64,
    /// The key.
    pub key: String,
    /// Makes repeating it safe.
    pub idempotency: Option<[u8; 16]>,
    /// How it relates to what is there.
    pub mode: CommitMode,
    /// What it says.
    pub content: Content,
    /// When it is answered.
    pub ack: Ack,
}

wire_enum! {
    /// Which nodes have a version before its writer is answered.
    Ack = Ack {
        /// As the bucket says, or as it was.
        #[default]
        Unset,
        /// The one that was asked.
        One,
        /// A majority.
        Quorum,
        /// All.
        All,
    }
}

/// Commits of one slot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommitRequest {
    /// Comes with every request.
    pub call: CallInfo,
    /// At least one; all of one slot.
    pub commits: Vec<Commit>,
}

wire_enum! {
    /// What a commit did to the graph.
    Effect = Effect {
        /// It replaced all it meant to.
        #[default]
        FastForward,
        /// It stands beside what had replaced its parent.
        Branch,
        /// Nothing had to change.
        Nothing,
    }
}

/// A commit that took effect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// Its version.
    pub version: VersionId,
    /// Confirmed or provisional.
    pub state: VersionState,
    /// What it did to the graph.
    pub effect: Effect,
    /// An earlier call with the same idempotency key did it.
    pub is_repeated: bool,
    /// Heads of the key now.
    pub heads: u32,
}

/// Which version of a key is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReadMode {
    /// The preferred head; without a leader, what the node has.
    #[default]
    Preferred,
    /// The preferred confirmed head, or an error.
    ConfirmedOnly,
    /// What the node itself has.
    ProvisionalAllowed,
    /// This one.
    Version(VersionId),
    /// The preferred head at that time.
    At(u64),
    /// The one that S3 calls "null".
    Null,
}

/// One version of one key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadRequest {
    /// Comes with every request.
    pub call: CallInfo,
    /// The bucket.
    pub bucket: u64,
    /// The key.
    pub key: String,
    /// Which version.
    pub mode: ReadMode,
}

/// What a read finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadResult {
    /// A version with data.
    Found {
        /// It.
        version: Box<Version>,
        /// All heads, the preferred one first.
        heads: Vec<VersionId>,
        /// Linearizable.
        from_leader: bool,
    },
    /// Nothing, or something that hides it.
    Absent {
        /// What hides it; zero: there never was such a key.
        marker: VersionId,
        /// Linearizable.
        from_leader: bool,
    },
}

wire_enum! {
    /// What is listed.
    Listing = Listing {
        /// Keys whose preferred head is data.
        #[default]
        Objects,
        /// All versions.
        Versions,
        /// Multipart uploads under way.
        Uploads,
        /// Keys in conflict.
        Conflicts,
    }
}

/// Where is listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// In all slots.
    #[default]
    Bucket,
    /// In this one.
    Slot(u32),
}

/// A page of a listing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListRequest {
    /// Comes with every request.
    pub call: CallInfo,
    /// The bucket.
    pub bucket: u64,
    /// What is listed.
    pub what: Listing,
    /// Keys that begin so.
    pub prefix: String,
    /// Rolls up what lies behind it; empty: doesn't.
    pub delimiter: String,
    /// Only keys behind this one, itself excluded.
    pub start_after: String,
    /// From the page before; empty: the first page.
    pub cursor: Vec<u8>,
    /// 1 to [`PAGE_MAX`]; 0 was read as the most.
    pub page_size: u32,
    /// In one slot or all.
    pub scope: Scope,
}

/// What stands at a place of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// Keys rolled up.
    Prefix,
    /// A version, without payload.
    Version(Box<Version>),
    /// An upload under way.
    Upload {
        /// Its name.
        id: VersionId,
        /// When it began.
        initiated: u64,
    },
    /// A key in conflict, and how many heads it has.
    Conflict(u32),
}

/// One line of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key, or the common prefix.
    pub key: String,
    /// What stands there.
    pub kind: EntryKind,
}

/// A page of a listing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// In the order of their keys.
    pub entries: Vec<Entry>,
    /// For the next page; empty: there is none.
    pub cursor: Vec<u8>,
}

/// A cursor is opaque, and made of a key and what places it among others.
const CURSOR_BYTES_MAX: usize = 2 * KEY_BYTES_MAX;

macro_rules! request {
    ($name:ident => $answer:ty) => {
        impl Request for $name {
            type Answer = $answer;

            fn call(&self) -> &CallInfo {
                &self.call
            }

            fn call_mut(&mut self) -> &mut CallInfo {
                &mut self.call
            }
        }
    };
}

pub(crate) use request;

request!(CommitRequest => Vec<Answer<Committed>>);
request!(ReadRequest => ReadResult);
request!(ListRequest => Page);

fn read_key(from: capnp::Result<capnp::text::Reader<'_>>) -> Result<String, Malformed> {
    let key = read_text(from, KEY_BYTES_MAX)?;
    if key.is_empty() { Err(Malformed::new("empty, and must have a byte at least")) } else { Ok(key) }
}

fn read_etags(from: capnp::Result<capnp::text_list::Reader<'_>>) -> Result<Vec<String>, Malformed> {
    read_list!(from, LIST_MAX, |etag| read_text(etag, TEXT_BYTES_MAX))
}

fn write_etags(mut into: capnp::text_list::Builder<'_>, etags: &[String]) {
    for (at, etag) in (0..).zip(etags) {
        into.set(at, etag.as_str());
    }
}

impl Wire for Condition {
    type Form = schema::condition::Owned;

    fn read(from: schema::condition::Reader<'_>) -> Result<Self, Malformed> {
        use schema::condition::Which;
        Ok(match from.which()? {
            Which::Absent(()) => Self::Absent,
            Which::Exists(()) => Self::Exists,
            Which::EtagIn(etags) => Self::EtagIn(read_etags(etags).field("etagIn")?),
            Which::EtagNotIn(etags) => Self::EtagNotIn(read_etags(etags).field("etagNotIn")?),
            Which::Head(id) => Self::Head(VersionId::read(id?)?),
        })
    }

    fn write(&self, mut into: schema::condition::Builder<'_>) {
        match self {
            Self::Absent => into.set_absent(()),
            Self::Exists => into.set_exists(()),
            Self::EtagIn(etags) => write_etags(into.init_etag_in(list_len(etags.len())), etags),
            Self::EtagNotIn(etags) => write_etags(into.init_etag_not_in(list_len(etags.len())), etags),
            Self::Head(id) => id.write(into.init_head()),
        }
    }
}

impl Wire for Import {
    type Form = schema::import::Owned;

    fn read(from: schema::import::Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            id: VersionId::read(from.get_id()?)?,
            parents: read_ids(from.get_parents()).field("parents")?,
            dot: Dot::read(from.get_dot()?)?,
            context: read_context(from.get_context()).field("context")?,
            modified: from.get_modified(),
            is_null: from.get_is_null(),
        })
    }

    fn write(&self, mut into: schema::import::Builder<'_>) {
        self.id.write(into.reborrow().init_id());
        self.dot.write(into.reborrow().init_dot());
        into.set_modified(self.modified);
        into.set_is_null(self.is_null);
        write_list!(into.reborrow().init_parents(list_len(self.parents.len())), &self.parents);
        write_list!(into.init_context(list_len(self.context.len())), &self.context);
    }
}

fn read_mode(from: schema::commit::mode::Reader<'_>) -> Result<CommitMode, Malformed> {
    use schema::commit::mode::Which;
    Ok(match from.which()? {
        Which::Overwrite(()) => CommitMode::Overwrite,
        Which::Derive(parents) => CommitMode::Derive(read_parents(parents, 1).field("derive")?),
        Which::Conditional(conditions) => CommitMode::Conditional(read_conditions(conditions).field("conditional")?),
        Which::Merge(parents) => CommitMode::Merge(read_parents(parents, 2).field("merge")?),
        Which::Import(import) => CommitMode::Import(Import::read(import?).field("import")?),
    })
}

fn read_parents(
    from: capnp::Result<capnp::struct_list::Reader<'_, schema::version_id::Owned>>,
    min: usize,
) -> Result<Vec<VersionId>, Malformed> {
    let parents = read_ids(from)?;
    if parents.len() < min {
        return Err(Malformed::new(format!("{} versions, and needs at least {min}", parents.len())));
    }
    Ok(parents)
}

fn read_conditions(
    from: capnp::Result<capnp::struct_list::Reader<'_, schema::condition::Owned>>,
) -> Result<Vec<Condition>, Malformed> {
    let conditions = read_list!(from, LIST_MAX, Condition::read)?;
    // None would hold always: surely a mistake, and one that overwrites.
    if conditions.is_empty() { Err(Malformed::new("no condition; use overwrite")) } else { Ok(conditions) }
}

fn write_mode(mode: &CommitMode, mut into: schema::commit::mode::Builder<'_>) {
    match mode {
        CommitMode::Overwrite => into.set_overwrite(()),
        CommitMode::Derive(parents) => write_list!(into.init_derive(list_len(parents.len())), parents),
        CommitMode::Conditional(conditions) => {
            write_list!(into.init_conditional(list_len(conditions.len())), conditions);
        }
        CommitMode::Merge(parents) => write_list!(into.init_merge(list_len(parents.len())), parents),
        CommitMode::Import(import) => import.write(into.init_import()),
    }
}

impl Wire for Commit {
    type Form = schema::commit::Owned;

    fn read(from: schema::commit::Reader<'_>) -> Result<Self, Malformed> {
        let commit = Self {
            bucket: from.get_bucket(),
            key: read_key(from.get_key()).field("key")?,
            idempotency: read_array_or_none(from.get_idempotency()).field("idempotency")?,
            mode: read_mode(from.get_mode()).field("mode")?,
            content: Content::read(from.get_content()?).field("content")?,
            ack: Ack::of(from.get_ack().field("ack")?),
        };
        check_size(&commit.content).field("content")?;
        let deletion = Content { kind: commit.content.kind, ..Content::default() };
        if commit.content.kind != VersionKind::Data && commit.content != deletion {
            return Err(Malformed::new("a tombstone or delete marker has nothing but its kind")).field("content");
        }
        Ok(commit)
    }

    fn write(&self, mut into: schema::commit::Builder<'_>) {
        into.set_bucket(self.bucket);
        into.set_key(self.key.as_str());
        into.set_idempotency(self.idempotency.as_ref().map_or(&[][..], |key| key));
        write_mode(&self.mode, into.reborrow().init_mode());
        self.content.write(into.reborrow().init_content());
        into.set_ack(self.ack.form());
    }
}

impl Wire for CommitRequest {
    type Form = schema::commit_request::Owned;

    fn read(from: schema::commit_request::Reader<'_>) -> Result<Self, Malformed> {
        let commits = read_commits(from).field("commits")?;
        Ok(Self { call: CallInfo::read(from.get_call()?)?, commits })
    }

    fn write(&self, mut into: schema::commit_request::Builder<'_>) {
        self.call.write(into.reborrow().init_call());
        write_list!(into.init_commits(list_len(self.commits.len())), &self.commits);
    }
}

fn read_commits(from: schema::commit_request::Reader<'_>) -> Result<Vec<Commit>, Malformed> {
    let commits = read_list!(from.get_commits(), COMMITS_MAX, Commit::read)?;
    if commits.is_empty() { Err(Malformed::new("empty, and must have one at least")) } else { Ok(commits) }
}

impl Wire for Committed {
    type Form = schema::committed::Owned;

    fn read(from: schema::committed::Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            version: VersionId::read(from.get_version()?)?,
            state: VersionState::of(from.get_state().field("state")?),
            effect: Effect::of(from.get_effect().field("effect")?),
            is_repeated: from.get_repeated(),
            heads: from.get_heads(),
        })
    }

    fn write(&self, mut into: schema::committed::Builder<'_>) {
        self.version.write(into.reborrow().init_version());
        into.set_state(self.state.form());
        into.set_effect(self.effect.form());
        into.set_repeated(self.is_repeated);
        into.set_heads(self.heads);
    }
}

impl Wire for Answer<Committed> {
    type Form = schema::commit_result::Owned;

    fn read(from: schema::commit_result::Reader<'_>) -> Result<Self, Malformed> {
        use schema::commit_result::Which;
        Ok(match from.which()? {
            Which::Committed(committed) => Ok(Committed::read(committed?)?),
            Which::Error(error) => Err(Error::read(error?)?),
        })
    }

    fn write(&self, into: schema::commit_result::Builder<'_>) {
        match self {
            Ok(committed) => committed.write(into.init_committed()),
            Err(error) => error.write(into.init_error()),
        }
    }
}

impl Wire for Answer<Vec<Answer<Committed>>> {
    type Form = schema::commit_response::Owned;

    fn read(from: schema::commit_response::Reader<'_>) -> Result<Self, Malformed> {
        use schema::commit_response::Which;
        Ok(match from.which()? {
            Which::Results(results) => {
                Ok(read_list!(results, COMMITS_MAX, Answer::<Committed>::read).field("results")?)
            }
            Which::Error(error) => Err(Error::read(error?)?),
        })
    }

    fn write(&self, into: schema::commit_response::Builder<'_>) {
        match self {
            Ok(results) => write_list!(into.init_results(list_len(results.len())), results),
            Err(error) => error.write(into.init_error()),
        }
    }
}

impl Wire for ReadRequest {
    type Form = schema::read_request::Owned;

    fn read(from: schema::read_request::Reader<'_>) -> Result<Self, Malformed> {
        use schema::read_request::mode::Which;
        let mode = match from.get_mode().which().field("mode")? {
            Which::Preferred(()) => ReadMode::Preferred,
            Which::ConfirmedOnly(()) => ReadMode::ConfirmedOnly,
            Which::ProvisionalAllowed(()) => ReadMode::ProvisionalAllowed,
            Which::Version(id) => ReadMode::Version(VersionId::read(id?)?),
            Which::At(time) => ReadMode::At(time),
            Which::NullVersion(()) => ReadMode::Null,
        };
        Ok(Self {
            call: CallInfo::read(from.get_call()?)?,
            bucket: from.get_bucket(),
            key: read_key(from.get_key()).field("key")?,
            mode,
        })
    }

    fn write(&self, mut into: schema::read_request::Builder<'_>) {
        self.call.write(into.reborrow().init_call());
        into.set_bucket(self.bucket);
        into.set_key(self.key.as_str());
        let mut mode = into.init_mode();
        match self.mode {
            ReadMode::Preferred => mode.set_preferred(()),
            ReadMode::ConfirmedOnly => mode.set_confirmed_only(()),
            ReadMode::ProvisionalAllowed => mode.set_provisional_allowed(()),
            ReadMode::Version(id) => id.write(mode.init_version()),
            ReadMode::At(time) => mode.set_at(time),
            ReadMode::Null => mode.set_null_version(()),
        }
    }
}

impl Wire for Answer<ReadResult> {
    type Form = schema::read_response::Owned;

    fn read(from: schema::read_response::Reader<'_>) -> Result<Self, Malformed> {
        use schema::read_response::Which;
        match from.which()? {
            Which::Found(found) => {
                let found = found?;
                Ok(Ok(ReadResult::Found {
                    version: Box::new(Version::read(found.get_version()?).field("version")?),
                    heads: read_ids(found.get_heads()).field("heads")?,
                    from_leader: found.get_from_leader(),
                }))
            }
            Which::Absent(absent) => {
                let absent = absent?;
                let marker = VersionId::read(absent.get_marker()?)?;
                Ok(Ok(ReadResult::Absent { marker, from_leader: absent.get_from_leader() }))
            }
            Which::Error(error) => Ok(Err(Error::read(error?)?)),
        }
    }

    fn write(&self, into: schema::read_response::Builder<'_>) {
        match self {
            Ok(ReadResult::Found { version, heads, from_leader }) => {
                let mut found = into.init_found();
                version.write(found.reborrow().init_version());
                found.set_from_leader(*from_leader);
                write_list!(found.init_heads(list_len(heads.len())), heads);
            }
            Ok(ReadResult::Absent { marker, from_leader }) => {
                let mut absent = into.init_absent();
                absent.set_from_leader(*from_leader);
                marker.write(absent.init_marker());
            }
            Err(error) => error.write(into.init_error()),
        }
    }
}

impl Wire for ListRequest {
    type Form = schema::list_request::Owned;

    fn read(from: schema::list_request::Reader<'_>) -> Result<Self, Malformed> {
        use schema::list_request::scope::Which;
        let scope = match from.get_scope().which().field("scope")? {
            Which::BucketWide(()) => Scope::Bucket,
            Which::Slot(slot) => Scope::Slot(slot),
        };
        Ok(Self {
            call: CallInfo::read(from.get_call()?)?,
            bucket: from.get_bucket(),
            what: Listing::of(from.get_what().field("what")?),
            prefix: read_text(from.get_prefix(), KEY_BYTES_MAX).field("prefix")?,
            delimiter: read_text(from.get_delimiter(), KEY_BYTES_MAX).field("delimiter")?,
            start_after: read_text(from.get_start_after(), KEY_BYTES_MAX).field("startAfter")?,
            cursor: read_data(from.get_cursor(), CURSOR_BYTES_MAX).field("cursor")?.to_vec(),
            page_size: read_page_size(from.get_page_size()).field("pageSize")?,
            scope,
        })
    }

    fn write(&self, mut into: schema::list_request::Builder<'_>) {
        self.call.write(into.reborrow().init_call());
        into.set_bucket(self.bucket);
        into.set_what(self.what.form());
        into.set_prefix(self.prefix.as_str());
        into.set_delimiter(self.delimiter.as_str());
        into.set_start_after(self.start_after.as_str());
        into.set_cursor(&self.cursor);
        into.set_page_size(self.page_size);
        let mut scope = into.init_scope();
        match self.scope {
            Scope::Bucket => scope.set_bucket_wide(()),
            Scope::Slot(slot) => scope.set_slot(slot),
        }
    }
}

fn read_page_size(size: u32) -> Result<u32, Malformed> {
    let max = list_len(PAGE_MAX);
    match size {
        0 => Ok(max),
        size if size <= max => Ok(size),
        size => Err(Malformed::new(format!("{size}, and may be at most {max}"))),
    }
}

impl Wire for Entry {
    type Form = schema::entry::Owned;

    fn read(from: schema::entry::Reader<'_>) -> Result<Self, Malformed> {
        use schema::entry::Which;
        let kind = match from.which()? {
            Which::Prefix(()) => EntryKind::Prefix,
            Which::Version(version) => EntryKind::Version(Box::new(Version::read(version?).field("version")?)),
            Which::Upload(upload) => {
                let upload = upload?;
                EntryKind::Upload { id: VersionId::read(upload.get_id()?)?, initiated: upload.get_initiated() }
            }
            Which::Conflict(heads) => EntryKind::Conflict(heads),
        };
        Ok(Self { key: read_text(from.get_key(), KEY_BYTES_MAX).field("key")?, kind })
    }

    fn write(&self, mut into: schema::entry::Builder<'_>) {
        into.set_key(self.key.as_str());
        match &self.kind {
            EntryKind::Prefix => into.set_prefix(()),
            EntryKind::Version(version) => version.write(into.init_version()),
            EntryKind::Upload { id, initiated } => {
                let mut upload = into.init_upload();
                upload.set_initiated(*initiated);
                id.write(upload.init_id());
            }
            EntryKind::Conflict(heads) => into.set_conflict(*heads),
        }
    }
}

impl Wire for Answer<Page> {
    type Form = schema::list_response::Owned;

    fn read(from: schema::list_response::Reader<'_>) -> Result<Self, Malformed> {
        use schema::list_response::Which;
        match from.which()? {
            Which::Page(page) => {
                let page = page?;
                let entries = read_list!(page.get_entries(), PAGE_MAX, Entry::read).field("entries")?;
                let cursor = read_data(page.get_cursor(), CURSOR_BYTES_MAX).field("cursor")?.to_vec();
                Ok(Ok(Page { entries, cursor }))
            }
            Which::Error(error) => Ok(Err(Error::read(error?)?)),
        }
    }

    fn write(&self, into: schema::list_response::Builder<'_>) {
        match self {
            Ok(page) => {
                let mut form = into.init_page();
                form.set_cursor(&page.cursor);
                write_list!(form.init_entries(list_len(page.entries.len())), &page.entries);
            }
            Err(error) => error.write(into.init_error()),
        }
    }
}
