//! Lists of a bucket, whose names lie in all slots: each slot is asked for its share and a little more, then those that the
//! merged page needs more of.

use cairn_io::task::yield_now;
use cairn_meta::slot::list::{self, ConflictEntry, Gathering, Listed, ObjectEntry, Page, UploadEntry, VersionEntry};
use cairn_meta::slot::query::{Query, Reply};
use futures_util::future::try_join_all;

use super::{Cluster, ClusterError, Freshness};

/// Slots of this core that answer before others get their turn on it.
const ANSWERS_AT_ONCE: usize = 64;

impl Cluster {
    /// A page of objects of a bucket.
    ///
    /// # Errors
    /// If a slot can't be asked.
    pub async fn list_objects(&self, query: list::Query) -> Result<Page<ObjectEntry>, ClusterError> {
        self.list(query, Query::Objects, |reply| if let Reply::Objects(page) = reply { Some(page) } else { None }).await
    }

    /// A page of versions of a bucket.
    ///
    /// # Errors
    /// If a slot can't be asked.
    pub async fn list_versions(&self, query: list::Query) -> Result<Page<VersionEntry>, ClusterError> {
        self.list(query, Query::Versions, |reply| if let Reply::Versions(page) = reply { Some(page) } else { None })
            .await
    }

    /// A page of uploads of a bucket.
    ///
    /// # Errors
    /// If a slot can't be asked.
    pub async fn list_uploads(&self, query: list::Query) -> Result<Page<UploadEntry>, ClusterError> {
        self.list(query, Query::Uploads, |reply| if let Reply::Uploads(page) = reply { Some(page) } else { None }).await
    }

    /// A page of conflicts of a bucket.
    ///
    /// # Errors
    /// If a slot can't be asked.
    pub async fn list_conflicts(&self, query: list::Query) -> Result<Page<ConflictEntry>, ClusterError> {
        self.list(query, Query::Conflicts, |reply| if let Reply::Conflicts(page) = reply { Some(page) } else { None })
            .await
    }

    async fn list<T: Listed>(
        &self,
        query: list::Query,
        ask: impl Fn(list::Query) -> Query,
        page: impl Fn(Reply) -> Option<Page<T>>,
    ) -> Result<Page<T>, ClusterError> {
        let mut gathering = Gathering::new(query, self.map().born().slots);
        loop {
            let asked = gathering.lacking();
            if asked.is_empty() {
                return Ok(gathering.finish());
            }
            let page_of = |reply| page(reply).ok_or_else(ClusterError::another_question);
            let mut others = Vec::new();
            for (at, (slot, query)) in asked.into_iter().enumerate() {
                let query = ask(query);
                // A node that is a cluster of its own has hundreds of slots to ask and nobody to wait for.
                match self.core().answer_alone(slot, &query) {
                    Some(reply) => gathering.add(slot, page_of(reply)?),
                    None => others.push((slot, query)),
                }
                if at % ANSWERS_AT_ONCE == ANSWERS_AT_ONCE - 1 {
                    yield_now().await;
                }
            }
            let page_of = &page_of;
            let replies = others.into_iter().map(|(slot, query)| async move {
                let reply = self.query_slot(slot, &query, Freshness::Latest).await?;
                Ok::<_, ClusterError>((slot, page_of(reply)?))
            });
            for (slot, page) in try_join_all(replies).await? {
                gathering.add(slot, page);
            }
        }
    }
}
