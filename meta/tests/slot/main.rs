//! A slot's state machine as a whole: against naive models, in the stories of others, under hostile bytes.

mod hostile;
mod list;
mod model;
mod s3;
mod stories;
mod world;
