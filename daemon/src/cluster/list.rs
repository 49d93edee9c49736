//! Lists of a bucket, whose names lie in all slots: each slot is asked for its share and a little more, then those that the
//! merged page needs more of.

use cairn_meta::slot::list::{self, Gathering, Listed, ObjectEntry, Page, UploadEntry, VersionEntry};
use cairn_meta::slot::query::{Query, Reply};
use futures_util::future::try_join_all;

use super::{Cluster, ClusterError, Freshness};

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
            let (ask, page) = (&ask, &page);
            let replies = asked.into_iter().map(|(slot, query)| async move {
                let reply = self.query_slot(slot, &ask(query), Freshness::Latest).await?;
                let page =
                    page(reply).ok_or_else(|| ClusterError::Broken("a slot answers another question".to_owned()))?;
                Ok::<_, ClusterError>((slot, page))
            });
            for (slot, page) in try_join_all(replies).await? {
                gathering.add(slot, page);
            }
        }
    }
}
