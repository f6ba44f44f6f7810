//! For integration tests, of this package and of the agent: a real PostgreSQL and a real server over
//! TLS, in one call, gone when the test process is gone.
//!
//! ```no_run
//! # async fn test() -> anyhow::Result<()> {
//! use sentrycam_cloud::{admin::Listing, faults::{Rule, What}, testing::Cloud};
//! let cloud = Cloud::start().await?;
//! let credentials = cloud.create_device("porch").await?;
//! credentials.write("/tmp/edge.json".as_ref())?;          // what the agent reads
//! let ca = cloud.ca_path();                               // what the agent trusts
//! // With `Cloud::builder().storage().start()`, a real S3 server too: `cloud.objects()`.
//! cloud.faults().add(Rule::times("/edge", What::CutAfterCommit, 1));
//! let events = cloud.list(Listing::Events).await?;        // the database is the oracle
//! # Ok(()) }
//! ```

mod ask;
mod claims;
mod cloud;
mod cluster;

pub use cloud::{Cloud, CloudBuilder};
pub use cluster::Cluster;
