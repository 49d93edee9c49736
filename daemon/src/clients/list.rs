//! Pages of objects, versions, uploads and conflicts of a bucket.

use cairn_meta::slot::list::{Item, Page as Found, Position, Query};
use cairn_schema::{Answer, Entry, EntryKind, Error, ErrorKind, ListRequest, Listing, Page, Scope};

use super::error::{bad_input, in_field, of_cluster, of_s3};
use super::words::Line;
use super::{Clients, words};
use crate::cluster::ClusterError;
use crate::s3::asker::Asker;
use crate::s3::op::Op;

impl Clients {
    pub(super) async fn list_page(&self, asker: &Asker, request: &ListRequest) -> Answer<Page> {
        if request.scope != Scope::Bucket {
            let message = "a list is of the whole bucket; of one slot it isn't served yet";
            return Err(in_field("scope", Error::fix_input(ErrorKind::Unsupported, message)));
        }
        let bucket = self.bucket(request.bucket).await?;
        let op = match request.what {
            Listing::Objects => Op::ListObjectsV2,
            Listing::Versions => Op::ListObjectVersions,
            Listing::Uploads => Op::ListMultipartUploads,
            Listing::Conflicts => Op::ListConflicts,
        };
        let words = (request.prefix.as_str(), request.delimiter.as_str());
        asker.list(op, &bucket, words, request.page_size).map_err(|error| of_s3(&error))?;
        let query = query(request)?;
        let cluster = &self.cluster;
        match request.what {
            Listing::Objects => fill(query, |query| cluster.list_objects(query)).await,
            Listing::Versions => fill(query, |query| cluster.list_versions(query)).await,
            Listing::Uploads => fill(query, |query| cluster.list_uploads(query)).await,
            Listing::Conflicts => fill(query, |query| cluster.list_conflicts(query)).await,
        }
    }
}

fn query(request: &ListRequest) -> Answer<Query> {
    let after = if request.cursor.is_empty() {
        (!request.start_after.is_empty()).then(|| Position::behind(request.start_after.as_str()))
    } else {
        let position = words::position(&request.cursor);
        Some(position.ok_or_else(|| bad_input("cursor", "no cursor of a page of this list: begin with none"))?)
    };
    let (prefix, delimiter) = (request.prefix.clone(), request.delimiter.clone());
    Ok(Query { bucket: request.bucket, prefix, delimiter, after, limit: request.page_size, upto: None })
}

/// A whole page: slots may give less than is asked for although there is more.
async fn fill<T: Line, F>(mut query: Query, ask: impl Fn(Query) -> F) -> Answer<Page>
where
    F: Future<Output = Result<Found<T>, ClusterError>>,
{
    let mut page = Page::default();
    loop {
        let found = ask(query.clone()).await.map_err(of_cluster)?;
        query.limit -= (found.items.len() as u32).min(query.limit);
        page.entries.extend(found.items.into_iter().map(entry));
        match found.next {
            Some(next) if query.limit > 0 => query.after = Some(next),
            next => {
                page.cursor = next.as_ref().map(words::cursor).unwrap_or_default();
                return Ok(page);
            }
        }
    }
}

fn entry<T: Line>(item: Item<T>) -> Entry {
    match item {
        Item::Entry(line) => line.entry(),
        Item::Prefix(key) => Entry { key, kind: EntryKind::Prefix },
    }
}
