//! `cairn put`, `cairn get`, `cairn cp`: bytes from here to there, back, and from there to there.

use std::path::{Path, PathBuf};

use futures_util::{Stream, StreamExt, stream};

use super::many::{self, Done, Print};
use super::place::{Place, below, file_name, folder, show};
use super::progress::Progress;
use crate::out::Failure;
use crate::s3::calls::{Facts, Object};
use crate::s3::local::{Found, Kind, Walk, create_dir, kind};
use crate::s3::settings::Settings;
use crate::s3::shapes::ObjectEntry;
use crate::s3::transfer::{End, Resume, Transfer};

const MIB: u64 = 1 << 20;
/// What S3 allows of a part that isn't the last.
const PART_MIN: u64 = 5 * MIB;
const PART_MAX: u64 = 5 << 30;

/// Options of every transfer.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Whole directories, and all objects whose keys begin with KEY/
    #[arg(long, short)]
    recursive: bool,
    /// Leave alone what is proven to be the same, and go on with uploads that broke off
    #[arg(long)]
    resume: bool,
    /// How many pieces are on their way at once; as many are in memory
    #[arg(long, short, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: u16,
    /// Bytes of a piece: longer files and objects are moved in several [5MiB to 5GiB]
    #[arg(long, value_name = "BYTES", default_value = "16MiB", value_parser = parse_part)]
    part_size: u64,
    /// Print a JSON object for each file or object, one a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Settings,
}

/// What is stored beside an object's bytes, and on what conditions.
#[derive(Clone, Debug, clap::Args)]
pub struct Stores {
    /// The media type, as text/plain
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
    /// Metadata to keep with the object (may be given several times)
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_metadata)]
    metadata: Vec<(String, String)>,
    /// Any other header of the request, as cache-control=max-age=60 (may be given several times)
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_pair)]
    header: Vec<(String, String)>,
    /// How long the object is to live, as 90s, 30m, 12h or 7d; then it is gone
    #[arg(long, value_name = "TIME", value_parser = parse_ttl)]
    ttl: Option<u64>,
    /// Only if there is no object of that name
    #[arg(long)]
    if_absent: bool,
    /// Only if the object of that name still has this tag
    #[arg(long, value_name = "ETAG", conflicts_with = "if_absent")]
    if_match: Option<String>,
}

/// Options of `cairn put`.
#[derive(Clone, Debug, clap::Args)]
pub struct PutArgs {
    /// A file, a directory with -r, or - for standard input
    from: String,
    /// cairn://BUCKET/KEY; ending with / the file's name is added
    to: String,
    #[command(flatten)]
    stores: Stores,
    #[command(flatten)]
    options: Options,
}

/// Options of `cairn get`.
#[derive(Clone, Debug, clap::Args)]
pub struct GetArgs {
    /// cairn://BUCKET/KEY
    from: String,
    /// A file, a directory, or - for standard output
    #[arg(default_value = ".")]
    to: String,
    /// This version instead of the newest
    #[arg(long, value_name = "ID", conflicts_with = "recursive")]
    version: Option<String>,
    #[command(flatten)]
    options: Options,
}

/// Options of `cairn cp`.
#[derive(Clone, Debug, clap::Args)]
pub struct CpArgs {
    /// cairn://BUCKET/KEY, a file, a directory with -r, or -
    from: String,
    /// cairn://BUCKET/KEY, a file, a directory, or -
    to: String,
    /// This version of the source instead of the newest
    #[arg(long, value_name = "ID", conflicts_with = "recursive")]
    version: Option<String>,
    #[command(flatten)]
    stores: Stores,
    #[command(flatten)]
    options: Options,
}

fn parse_part(text: &str) -> Result<u64, String> {
    let bytes = crate::lane::text::parse_bytes(text)?;
    if (PART_MIN..=PART_MAX).contains(&bytes) { Ok(bytes) } else { Err("choose 5MiB to 5GiB".to_owned()) }
}

/// Seconds, from a number and its unit.
fn parse_ttl(text: &str) -> Result<u64, String> {
    let units = [("s", 1), ("m", 60), ("h", 60 * 60), ("d", 24 * 60 * 60)];
    let read = units.iter().find_map(|(unit, seconds)| {
        let number: u64 = text.strip_suffix(unit)?.parse().ok().filter(|number| *number > 0)?;
        number.checked_mul(*seconds)
    });
    read.ok_or_else(|| "write it as a number of seconds, minutes, hours or days: 90s, 30m, 12h, 7d".to_owned())
}

fn parse_pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write it as NAME=VALUE")?;
    Ok((name.to_ascii_lowercase(), value.to_owned()))
}

fn parse_metadata(text: &str) -> Result<(String, String), String> {
    parse_pair(text).map(|(name, value)| (format!("x-amz-meta-{name}"), value))
}

impl Stores {
    fn headers(&self) -> Vec<(String, String)> {
        let own = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let content_type = self.content_type.as_deref().map(|value| own("content-type", value));
        let absent = self.if_absent.then(|| own("if-none-match", "*"));
        let matching =
            self.if_match.as_deref().map(|value| own("if-match", &format!("\"{}\"", value.trim_matches('"'))));
        let ttl = self.ttl.map(|seconds| own("x-cairn-ttl", &seconds.to_string()));
        let single = [content_type, absent, matching, ttl].into_iter().flatten();
        single.chain(self.metadata.iter().chain(&self.header).cloned()).collect()
    }
}

impl PutArgs {
    /// Stores.
    ///
    /// # Errors
    /// If something isn't there, or isn't allowed.
    pub fn run(self) -> Result<(), Failure> {
        let Self { from, to, stores, options } = self;
        let (from, to) = ends(&from, &to)?;
        if matches!(from, Place::There(_)) || !matches!(to, Place::There(_)) {
            return Err(Failure::Input(
                "cairn put FILE cairn://BUCKET/KEY; cairn cp copies between objects".to_owned(),
            ));
        }
        super::run(move || copy(from, to, None, stores.headers(), options))
    }
}

impl GetArgs {
    /// Reads.
    ///
    /// # Errors
    /// If something isn't there, or isn't allowed.
    pub fn run(self) -> Result<(), Failure> {
        let Self { from, to, version, options } = self;
        let (from, to) = ends(&from, &to)?;
        if !matches!(from, Place::There(_)) || matches!(to, Place::There(_)) {
            return Err(Failure::Input(
                "cairn get cairn://BUCKET/KEY [FILE]; cairn cp copies between objects".to_owned(),
            ));
        }
        super::run(move || copy(from, to, version, vec![], options))
    }
}

impl CpArgs {
    /// Copies.
    ///
    /// # Errors
    /// If something isn't there, or isn't allowed.
    pub fn run(self) -> Result<(), Failure> {
        let Self { from, to, version, stores, options } = self;
        let (from, to) = ends(&from, &to)?;
        super::run(move || copy(from, to, version, stores.headers(), options))
    }
}

fn ends(from: &str, to: &str) -> Result<(Place, Place), Failure> {
    Ok((Place::parse(from).map_err(Failure::Input)?, Place::parse(to).map_err(Failure::Input)?))
}

/// A transfer and what its user sees of it.
struct Copier {
    transfer: Transfer,
    jobs: usize,
    print: Print,
    progress: Progress,
}

async fn copy(
    from: Place,
    to: Place,
    version: Option<String>,
    headers: Vec<(String, String)>,
    options: Options,
) -> Result<(), Failure> {
    let progress = Progress::new();
    let moved = progress.clone();
    let resume = if options.resume { Resume::Yes } else { Resume::No };
    let jobs = usize::from(options.jobs);
    let client = options.server.client().await?;
    let mut transfer =
        Transfer::new(client, options.part_size, jobs, resume, Box::new(move |bytes| moved.moved(bytes)));
    transfer.headers = headers;
    let print = match (&to, options.json) {
        (Place::Stream, _) => Print::Nothing,
        (_, true) => Print::Json,
        (_, false) => Print::Words,
    };
    let copier = Copier { transfer, jobs, print, progress };
    let ended = if options.recursive { copier.all(from, to).await } else { copier.one(from, to, version).await };
    copier.progress.end();
    ended
}

impl Copier {
    async fn one(&self, from: Place, to: Place, version: Option<String>) -> Result<(), Failure> {
        let (source, target) = (from.to_string(), to.to_string());
        let done = match (from, to) {
            (Place::Here(path), Place::There(object)) => {
                let Kind::File(len) = look(&path).await? else {
                    return Err(Failure::Input(format!("{source} is no file; copy directories with -r")));
                };
                let object = named(object, path.file_name().and_then(|name| name.to_str()))?;
                self.expect(len, &source);
                self.put(&path, len, object).await?
            }
            (Place::Stream, Place::There(object)) => {
                let object = named(object, None)?;
                let (stored, bytes) = self.transfer.upload_stream(&object).await?;
                Done { source, target: show(&object), bytes, end: End::Moved(stored) }
            }
            (Place::There(object), to @ (Place::Here(_) | Place::Stream)) => {
                let object = named(object, None)?;
                let (facts, _) = self.transfer.client.head(&object, version.as_deref()).await?;
                self.expect(facts.len, &source);
                let Place::Here(path) = to else {
                    return self.transfer.print(&object, &facts, (0, facts.len)).await;
                };
                self.get(&object, &facts, &file_for(&path, &object).await?).await?
            }
            (Place::There(from), Place::There(to)) => {
                let from = named(from, None)?;
                let to = named(to, Some(file_name(&from.key)))?;
                self.copy(&from, version.as_deref(), &to).await?
            }
            (Place::Here(_) | Place::Stream, Place::Here(_) | Place::Stream) => {
                return Err(Failure::Input(format!(
                    "neither {source} nor {target} is an object; write one as cairn://BUCKET/KEY"
                )));
            }
        };
        self.progress.end();
        done.print(self.print, &self.progress)
    }

    async fn all(&self, from: Place, to: Place) -> Result<(), Failure> {
        match (from, to) {
            (Place::Here(dir), Place::There(to)) => {
                if look(&dir).await? != Kind::Dir {
                    return Err(Failure::Input(format!("{} is no directory; leave out -r", dir.display())));
                }
                let files = self.files(&dir).map(|found| {
                    let key =
                        found.as_ref().map(|found| format!("{}{}", folder(&to.key), found.name)).unwrap_or_default();
                    let object = Object { bucket: to.bucket.clone(), key };
                    async move {
                        let found = found?;
                        self.put(&found.path, found.len, object).await
                    }
                });
                many::run(files, self.jobs, self.print, &self.progress).await
            }
            (Place::There(from), Place::Here(dir)) => {
                let (from, dir) = (&from, &dir);
                let objects = self.objects(from).map(|entry| async move {
                    let (name, entry) = entry?;
                    self.get_entry(from, &name, entry, dir).await
                });
                many::run(objects, self.jobs, self.print, &self.progress).await
            }
            (Place::There(from), Place::There(to)) => {
                let (from, to) = (&from, &to);
                let objects = self.objects(from).map(|entry| async move {
                    let (name, entry) = entry?;
                    let source = Object { bucket: from.bucket.clone(), key: entry.key };
                    let target = Object { bucket: to.bucket.clone(), key: format!("{}{name}", folder(&to.key)) };
                    self.copy(&source, None, &target).await
                });
                many::run(objects, self.jobs, self.print, &self.progress).await
            }
            (from, to) => Err(Failure::Input(format!(
                "can't copy all of {from} to {to}: one must be cairn://BUCKET, the other no stream"
            ))),
        }
    }

    fn expect(&self, bytes: u64, name: &str) {
        self.progress.expect(bytes);
        self.progress.about(name);
    }

    async fn put(&self, path: &Path, len: u64, object: Object) -> Result<Done, Failure> {
        let end = self.transfer.upload(path, &object).await?;
        Ok(Done { source: path.display().to_string(), target: show(&object), bytes: len, end })
    }

    async fn get(&self, object: &Object, facts: &Facts, path: &Path) -> Result<Done, Failure> {
        let end = self.transfer.download(object, facts, path).await?;
        Ok(Done { source: show(object), target: path.display().to_string(), bytes: facts.len, end })
    }

    /// One of many. What ends with a slash stands for a directory.
    async fn get_entry(&self, from: &Object, name: &str, entry: ObjectEntry, dir: &Path) -> Result<Done, Failure> {
        let object = Object { bucket: from.bucket.clone(), key: entry.key };
        let facts = Facts { len: entry.size, etag: entry.etag, version: None };
        if let Some(name) = name.strip_suffix('/')
            && facts.len == 0
        {
            let path = below(dir, name)?;
            let made = create_dir(path.clone()).await;
            made.map_err(|error| Failure::Broken(format!("can't make {}: {error}", path.display())))?;
            return Ok(Done {
                source: show(&object),
                target: path.display().to_string(),
                bytes: 0,
                end: End::Unchanged,
            });
        }
        self.get(&object, &facts, &below(dir, name)?).await
    }

    async fn copy(&self, from: &Object, version: Option<&str>, to: &Object) -> Result<Done, Failure> {
        let (end, bytes) = self.transfer.copy(from, version, to).await?;
        Ok(Done { source: show(from), target: show(to), bytes, end })
    }

    /// The files below a directory, as they are found.
    fn files(&self, dir: &Path) -> impl Stream<Item = Result<Found, Failure>> {
        let walk = stream::unfold(Walk::new(dir), |mut walk| async move { Some((walk.next().await?, walk)) });
        walk.flat_map(|seen| {
            let files = match seen {
                Ok((files, strange)) => {
                    let strange = strange.into_iter().map(|why| Err(Failure::Broken(format!("{why}; left out"))));
                    strange.chain(files.into_iter().map(Ok)).collect()
                }
                Err(why) => vec![Err(Failure::Broken(format!("can't read {why}")))],
            };
            stream::iter(files)
        })
        .inspect(|found| {
            if let Ok(found) = found {
                self.expect(found.len, &found.name);
            }
        })
    }

    /// The objects of a folder, as they are listed, with their names below it.
    fn objects<'a>(&'a self, from: &'a Object) -> impl Stream<Item = Result<(String, ObjectEntry), Failure>> + 'a {
        let prefix = folder(&from.key);
        let cut = prefix.len();
        super::ls::entries(&self.transfer.client, &from.bucket, prefix)
            .map(move |entry| {
                let entry = entry?;
                let name = entry.key.get(cut..).unwrap_or_default().to_owned();
                self.expect(entry.size, &entry.key);
                Ok((name, entry))
            })
            // The folder's own mark.
            .filter(|entry| std::future::ready(!entry.as_ref().is_ok_and(|(name, _)| name.is_empty())))
    }
}

async fn look(path: &Path) -> Result<Kind, Failure> {
    match kind(path).await {
        Ok(Kind::Missing) => Err(Failure::Missing(format!("there is no {}", path.display()))),
        Ok(found) => Ok(found),
        Err(error) => Err(Failure::Input(format!("can't look at {}: {error}", path.display()))),
    }
}

/// An object with a name: what names a bucket or a folder gets the file's.
fn named(object: Object, name: Option<&str>) -> Result<Object, Failure> {
    let is_folder = object.key.is_empty() || object.key.ends_with('/');
    match name {
        Some(name) if is_folder && !name.is_empty() => Ok(Object { key: format!("{}{name}", object.key), ..object }),
        _ if object.key.is_empty() => {
            Err(Failure::Input(format!("{} names no object; add its key, or copy all with -r", show(&object))))
        }
        _ => Ok(object),
    }
}

/// The file that an object is read into: in a directory, one of its name.
async fn file_for(path: &Path, object: &Object) -> Result<PathBuf, Failure> {
    match kind(path).await {
        Ok(Kind::Dir) => below(path, file_name(&object.key)),
        _ => Ok(path.to_owned()),
    }
}
