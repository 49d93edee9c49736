//! Settings that the cluster has for its nodes' configuration. In control their names have a prefix, so that they are never taken for
//! those that the cluster has of itself, as which nodes have slots.

use cairn_meta::control::command::{Command, PutSetting};
use cairn_meta::control::state::Setting;

use super::{Cluster, ClusterError, Map, new_token};

/// See the module.
const PREFIX: &str = "node.";

impl Map {
    /// What the cluster says of its nodes' configuration, each setting by the name that it has there.
    pub fn node_settings(&self) -> impl Iterator<Item = (&str, &Setting)> {
        self.settings.iter().filter_map(|(name, setting)| Some((name.strip_prefix(PREFIX)?, setting)))
    }
}

impl Cluster {
    /// Changes what the cluster says of its nodes' configuration; the name is the one that the setting has there.
    ///
    /// # Errors
    /// If somebody was faster than what is expected, or control can't be reached.
    pub async fn put_node_setting(&self, who: &str, put: PutSetting) -> Result<(), ClusterError> {
        let put = PutSetting { name: format!("{PREFIX}{}", put.name), ..put };
        // With a token: proposed twice, it must not be refused for what it did itself.
        self.control(who, Some(new_token()), Command::PutSetting(put)).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use cairn_meta::control::state::Whole;

    use super::*;
    use crate::cluster::Seal;

    #[test]
    fn settings_of_the_cluster_itself_are_none_of_a_nodes() {
        let named = |name: &str| (name.to_owned(), Setting { value: "1".to_owned(), epoch: 3 });
        let settings = vec![named("log.level"), named("node.log.level"), named(crate::cluster::map::SLOT_NODES)];
        let map = Map::new(Whole { settings, ..Whole::default() }, &Seal::new(&[1; Seal::BYTES]));
        let names: Vec<&str> = map.node_settings().map(|(name, _)| name).collect();
        assert_eq!(names, ["log.level"]);
    }
}
